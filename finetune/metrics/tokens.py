"""Metrics of tokens, each counting once, whichever example it is of."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from finetune.metrics.answers import Answers, Form
from finetune.metrics.base import SumMetric, Values, quotient


class TokenAccuracy(SumMetric):
    """The share of tokens whose tag, or which themselves, are predicted; NaN of no tokens."""

    metric_name: ClassVar[str] = "token_accuracy"
    formula: ClassVar[str] = "tokens predicted right / tokens"
    forms: ClassVar[tuple[Form, ...]] = ("tags", "tokens")

    def statistics(self, answers: Answers) -> Values:
        if answers.form == "tokens":
            return np.stack([answers.predictions[:, 1], answers.references], axis=-1).astype(float)
        pairs = zip(answers.predictions, answers.references, strict=True)
        counts = [(sum(map(str.__eq__, predicted, true)), len(true)) for predicted, true in pairs]
        return np.array(counts, dtype=float).reshape(-1, 2)

    def of_sums(self, sums: Values) -> Values:
        return quotient(sums[..., 0], sums[..., 1], undefined=math.nan)


class Perplexity(SumMetric):
    """e to the mean negative log-likelihood of a token, at least 1; lower is better. NaN of no tokens."""

    metric_name: ClassVar[str] = "perplexity"
    formula: ClassVar[str] = "exp(Σ negative log-likelihood / tokens)"
    forms: ClassVar[tuple[Form, ...]] = ("tokens",)
    greater_is_better: ClassVar[bool] = False

    def statistics(self, answers: Answers) -> Values:
        return np.stack([answers.predictions[:, 0], answers.references], axis=-1).astype(float)

    def of_sums(self, sums: Values) -> Values:
        perplexity: Values = np.exp(quotient(sums[..., 0], sums[..., 1], undefined=math.nan))
        return perplexity
