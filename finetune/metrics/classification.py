"""Metrics of predicted against true classes, from the table that counts each pair of them."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from finetune.metrics.answers import Answers, Form
from finetune.metrics.base import RESAMPLES, Metric, Values, quotient, spread

Labels = np.ndarray[Any, np.dtype[np.int64]]
Tables = np.ndarray[Any, np.dtype[np.int64]]


def confusion_table(predictions: Labels, references: Labels) -> Tables:
    """Returns how many of n examples are of each true (row) and predicted class (column), of those that occur."""
    classes, numbers = np.unique(np.concatenate([references, predictions]), return_inverse=True)
    true, predicted = numbers.reshape(2, -1)
    return np.bincount(true * len(classes) + predicted, minlength=len(classes) ** 2).reshape(len(classes), -1)


class Accuracy(Metric):
    """The share of examples whose class is predicted. Its standard error is the binomial √(p(1−p)/n)."""

    metric_name: ClassVar[str] = "accuracy"
    formula: ClassVar[str] = "correct / all"
    forms: ClassVar[tuple[Form, ...]] = ("classes",)

    def of_each(self, answers: Answers) -> Values:
        return np.asarray(answers.predictions == answers.references, dtype=np.float64)

    def value(self, answers: Answers) -> float:
        return float(np.mean(self.of_each(answers))) if len(answers) else math.nan

    def standard_error(self, answers: Answers) -> float:
        share = self.value(answers)
        return math.sqrt(share * (1 - share) / len(answers)) if len(answers) else math.nan


class TableMetric(Metric):
    """A metric that the confusion table says; subclasses give it for many tables at once.

    Its standard error is that of the bootstrap over examples, as that of any metric is; the table of n examples drawn
    with replacement is multinomial, and is drawn as such.
    """

    forms: ClassVar[tuple[Form, ...]] = ("classes",)

    def of_tables(self, tables: Tables) -> Values:
        """Returns the metric, of shape (…), of confusion tables of shape (…, classes, classes)."""
        raise NotImplementedError

    def value(self, answers: Answers) -> float:
        if not len(answers):
            return math.nan
        return float(self.of_tables(confusion_table(answers.predictions, answers.references)))

    def standard_error(self, answers: Answers) -> float:
        if not len(answers):
            return math.nan
        table = confusion_table(answers.predictions, answers.references)
        shares = table.ravel() / table.sum()
        drawn = np.random.default_rng(0).multinomial(table.sum(), shares, size=RESAMPLES)
        return spread(self.of_tables(drawn.reshape(-1, *table.shape)))


class F1Macro(TableMetric):
    """The unweighted mean over classes of F1 = 2TP / (2TP + FP + FN), over the classes that occur or are predicted."""

    metric_name: ClassVar[str] = "f1_macro"
    formula: ClassVar[str] = "mean over classes of 2TP / (2TP + FP + FN)"

    def of_tables(self, tables: Tables) -> Values:
        right = np.diagonal(tables, axis1=-2, axis2=-1)
        either = tables.sum(axis=-1) + tables.sum(axis=-2)
        by_class = quotient(2 * right, either)
        value: Values = np.mean(by_class, axis=-1, where=either > 0)
        return value


class MatthewsCorrelation(TableMetric):
    """The correlation of true and predicted classes, in [−1, 1]; 0 where either is constant (Matthews 1975)."""

    metric_name: ClassVar[str] = "matthews_correlation"
    formula: ClassVar[str] = "(c·s − Σ pₖtₖ) / √((s² − Σ pₖ²)(s² − Σ tₖ²)), Gorodkin 2004 for several classes"

    def of_tables(self, tables: Tables) -> Values:
        true, predicted = tables.sum(axis=-1), tables.sum(axis=-2)
        right, all_of_them = np.trace(tables, axis1=-2, axis2=-1), true.sum(axis=-1)
        covariance = right * all_of_them - (predicted * true).sum(axis=-1)
        variances = [all_of_them**2.0 - (counts**2).sum(axis=-1) for counts in (predicted, true)]
        return quotient(covariance, np.sqrt(variances[0] * variances[1]))
