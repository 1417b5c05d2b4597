"""Metrics of sequences of tags."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar

import numpy as np

from finetune.metrics.answers import Answers, Form
from finetune.metrics.base import SumMetric, Values, quotient

Entity = tuple[str, int, int]
OUTSIDE = "O"


def entities(tags: Sequence[str]) -> set[Entity]:
    """Returns the type, the first token and the token after the last of each entity.

    Tags are B-TYPE, I-TYPE, E-TYPE, S-TYPE, O, a letter without a type, or a TYPE alone. An entity goes on from one
    token to the next unless the type changes, the next begins one (B, S) or the last has ended one (E, S), so that an
    I-TYPE out of place begins an entity too, as in conlleval and the default mode of seqeval.
    """
    found = set()
    start, before = 0, (OUTSIDE, "")
    for place, tag in enumerate([*tags, OUTSIDE]):
        now = _split(tag)
        if before[0] in "ESO" or now[0] in "BSO" or before[1] != now[1]:
            if before[0] != OUTSIDE:
                found.add((before[1], start, place))
            start = place
        before = now
    return found


@lru_cache(maxsize=4096)
def _split(tag: str) -> tuple[str, str]:
    """Returns the letter of a tag and its type; of a type alone the letter is I."""
    if tag in ("B", "I", "E", "S", OUTSIDE):
        return tag, ""
    return (tag[0], tag[2:]) if tag[:2] in ("B-", "I-", "E-", "S-") else ("I", tag)


class EntityMetric(SumMetric):
    """A metric of how many entities are predicted rightly, predicted, and true; an entity is right as a whole."""

    forms: ClassVar[tuple[Form, ...]] = ("tags",)

    def statistics(self, answers: Answers) -> Values:
        pairs = zip(answers.predictions, answers.references, strict=True)
        found = [(entities(predicted), entities(true)) for predicted, true in pairs]
        counts = [(len(predicted & true), len(predicted), len(true)) for predicted, true in found]
        return np.array(counts, dtype=float).reshape(-1, 3)


class EntityF1(EntityMetric):
    """The F1 of entities of all types together; 0 where there are none and none is predicted."""

    metric_name: ClassVar[str] = "entity_f1"
    formula: ClassVar[str] = "2 · right / (predicted + true), counts of entities"

    def of_sums(self, sums: Values) -> Values:
        return quotient(2 * sums[..., 0], sums[..., 1] + sums[..., 2])


class EntityPrecision(EntityMetric):
    """The share of predicted entities that are right; 0 where none is predicted."""

    metric_name: ClassVar[str] = "entity_precision"
    formula: ClassVar[str] = "right / predicted, counts of entities"

    def of_sums(self, sums: Values) -> Values:
        return quotient(sums[..., 0], sums[..., 1])


class EntityRecall(EntityMetric):
    """The share of true entities that are predicted; 0 where there are none."""

    metric_name: ClassVar[str] = "entity_recall"
    formula: ClassVar[str] = "right / true, counts of entities"

    def of_sums(self, sums: Values) -> Values:
        return quotient(sums[..., 0], sums[..., 2])
