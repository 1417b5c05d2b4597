"""Metrics of predicted against true classes, computed by scikit-learn."""

from __future__ import annotations

import math
from typing import ClassVar

from sklearn import metrics as scikit

from finetune.metrics.base import Labels, Metric


class Accuracy(Metric):
    """The share of examples whose class is predicted. Its standard error is the binomial √(p(1−p)/n)."""

    metric_name: ClassVar[str] = "accuracy"
    formula: ClassVar[str] = "correct / all"

    def value(self, predictions: Labels, references: Labels) -> float:
        return float(scikit.accuracy_score(references, predictions))

    def standard_error(self, predictions: Labels, references: Labels) -> float:
        share = self.value(predictions, references)
        return math.sqrt(share * (1 - share) / len(references))


class F1Macro(Metric):
    """The unweighted mean over classes of F1 = 2TP / (2TP + FP + FN), over the classes that occur or are predicted."""

    metric_name: ClassVar[str] = "f1_macro"
    formula: ClassVar[str] = "mean over classes of 2TP / (2TP + FP + FN)"

    def value(self, predictions: Labels, references: Labels) -> float:
        return float(scikit.f1_score(references, predictions, average="macro", zero_division=0))


class MatthewsCorrelation(Metric):
    """The correlation of true and predicted classes, in [−1, 1]; 0 where either is constant (Matthews 1975)."""

    metric_name: ClassVar[str] = "matthews_correlation"
    formula: ClassVar[str] = "(c·s − Σ pₖtₖ) / √((s² − Σ pₖ²)(s² − Σ tₖ²)), Gorodkin 2004 for several classes"

    def value(self, predictions: Labels, references: Labels) -> float:
        if (references == references[0]).all():
            return 0.0  # as scikit-learn has it, but without its warning
        return float(scikit.matthews_corrcoef(references, predictions))
