"""Metrics of whole answers: texts against those that are accepted, sets of labels against the true ones."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from finetune.metrics.answers import Answers, Form
from finetune.metrics.base import MeanMetric, Values

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def words(text: str) -> list[str]:
    """Returns the words in small letters, without punctuation and articles, as SQuAD compares answers."""
    return _ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split()


class ExactMatch(MeanMetric):
    """The share of texts that, word for word, are an accepted one, or of examples whose labels are all right.

    Texts are compared as in SQuAD v2 (Rajpurkar et al. 2018, arXiv 1806.03822): without case, punctuation and articles.
    """

    metric_name: ClassVar[str] = "exact_match"
    formula: ClassVar[str] = "answers that are wholly right / all"
    forms: ClassVar[tuple[Form, ...]] = ("label_sets", "texts")

    def of_each(self, answers: Answers) -> Values:
        if answers.form == "label_sets":
            right: Values = (answers.predictions == answers.references).all(axis=1).astype(float)
            return right
        return _best(answers, lambda given, accepted: float(given == accepted))


class AnswerF1(MeanMetric):
    """The mean over texts of the F1 of their words, against the accepted text that gives most, as in SQuAD v2.

    It is 1 of a text without words where none is accepted.
    """

    metric_name: ClassVar[str] = "answer_f1"
    formula: ClassVar[str] = "mean of 2 · words in common / (words predicted + words accepted)"
    forms: ClassVar[tuple[Form, ...]] = ("texts",)

    def of_each(self, answers: Answers) -> Values:
        return _best(answers, _f1)


def _best(answers: Answers, score: Callable[[list[str], list[str]], float]) -> Values:
    """Returns the greatest score of each text among the accepted ones; those without words count only if all are."""
    pairs = zip(answers.predictions, answers.references, strict=True)
    return np.array([max(score(words(given), each) for each in _accepted(texts)) for given, texts in pairs])


def _accepted(texts: Sequence[str]) -> list[list[str]]:
    return [found for found in map(words, texts) if found] or [[]]


def _f1(given: list[str], accepted: list[str]) -> float:
    if not given or not accepted:
        return float(given == accepted)
    return 2 * (Counter(given) & Counter(accepted)).total() / (len(given) + len(accepted))
