"""Metrics of predicted against true classes, from the table that counts each pair of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from finetune.metrics import not_of_two
from finetune.metrics.answers import Answers, Form
from finetune.metrics.base import CELLS, RESAMPLES, Metric, SumMetric, Values, quotient, spread

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
        return spread(np.concatenate([self.of_tables(tables) for tables in _drawn(table)]))


def _drawn(table: Tables) -> Iterator[Tables]:
    """Yields `RESAMPLES` tables of as many examples drawn with replacement, each time the same ones, some at once."""
    generator, total = np.random.default_rng(0), table.sum()
    at_once = max(1, CELLS // table.size)
    for start in range(0, RESAMPLES, at_once):
        size = min(at_once, RESAMPLES - start)
        yield generator.multinomial(total, table.ravel() / total, size=size).reshape(size, *table.shape)


class BalancedAccuracy(TableMetric):
    """The unweighted mean of the classes' recalls, over the classes that occur (Brodersen et al. 2010)."""

    metric_name: ClassVar[str] = "balanced_accuracy"
    formula: ClassVar[str] = "mean over true classes of TP / (TP + FN)"

    def of_tables(self, tables: Tables) -> Values:
        true = tables.sum(axis=-1)
        recalls = quotient(np.diagonal(tables, axis1=-2, axis2=-1), true)
        return quotient(recalls.sum(axis=-1), (true > 0).sum(axis=-1))


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


class F1(SumMetric):
    """The F1 of the positive class, the last of two; 0 where no example is positive or predicted so.

    Raises SettingError where there are other than two classes.
    """

    metric_name: ClassVar[str] = "f1"
    formula: ClassVar[str] = "2TP / (2TP + FP + FN)"
    forms: ClassVar[tuple[Form, ...]] = ("classes",)

    def statistics(self, answers: Answers) -> Values:
        count = _classes_of(answers)
        if count != 2:
            raise not_of_two(count, answers.names or ())
        true, predicted = answers.references == 1, answers.predictions == 1
        return np.stack([true & predicted, true, predicted], axis=-1).astype(float)

    def of_sums(self, sums: Values) -> Values:
        right, true, predicted = np.moveaxis(sums, -1, 0)
        return quotient(2 * right, true + predicted)


def _classes_of(answers: Answers) -> int:
    """Returns how many classes there are; where nothing tells, two unless a third occurs."""
    if answers.names:
        return len(answers.names)
    if answers.scores is not None:
        return int(answers.scores.shape[1])
    return max(2, *(int(column.max(initial=0)) + 1 for column in (answers.references, answers.predictions)))
