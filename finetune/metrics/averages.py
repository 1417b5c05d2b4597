"""F1, precision and recall, averaged over classes or, where an example has a set of labels, over labels."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from finetune.metrics.answers import Answers, Form
from finetune.metrics.base import SumMetric, Values, quotient
from finetune.metrics.classification import TableMetric, Tables

Counts = Tables | Values


class Averaged(TableMetric, SumMetric):
    """A metric of three counts per class or label; subclasses give it as `of_counts`.

    Averages are over the classes or labels that occur or are predicted; 0 where none does.
    """

    forms: ClassVar[tuple[Form, ...]] = ("classes", "label_sets")

    def of_counts(self, right: Counts, predicted: Counts, true: Counts) -> Values:
        """Returns the metric, of shape (…), of how often each class is predicted rightly, predicted, and true."""
        raise NotImplementedError

    def of_tables(self, tables: Tables) -> Values:
        right = np.diagonal(tables, axis1=-2, axis2=-1)
        return self.of_counts(right, tables.sum(axis=-2), tables.sum(axis=-1))

    def statistics(self, answers: Answers) -> Values:
        predicted, true = answers.predictions != 0, answers.references != 0
        return np.concatenate([predicted & true, predicted, true], axis=-1).astype(float)

    def of_sums(self, sums: Values) -> Values:
        right, predicted, true = np.split(sums, 3, axis=-1)
        return self.of_counts(right, predicted, true)

    def value(self, answers: Answers) -> float:
        return self._by_form(answers).value(self, answers)

    def standard_error(self, answers: Answers) -> float:
        return self._by_form(answers).standard_error(self, answers)

    def _by_form(self, answers: Answers) -> type[TableMetric] | type[SumMetric]:
        return TableMetric if answers.form == "classes" else SumMetric


def _mean(by_class: Values, occurs: Counts) -> Values:
    """Returns the mean over the classes that occur or are predicted; `by_class` is 0 of all others."""
    return quotient(by_class.sum(axis=-1), (occurs > 0).sum(axis=-1))


class F1Macro(Averaged):
    """The unweighted mean over classes of F1 = 2TP / (2TP + FP + FN)."""

    metric_name: ClassVar[str] = "f1_macro"
    formula: ClassVar[str] = "mean over classes of 2TP / (2TP + FP + FN)"

    def of_counts(self, right: Counts, predicted: Counts, true: Counts) -> Values:
        return _mean(quotient(2 * right, predicted + true), predicted + true)


class F1Micro(Averaged):
    """F1 of all classes' counts together; of one class per example it is the accuracy."""

    metric_name: ClassVar[str] = "f1_micro"
    formula: ClassVar[str] = "2ΣTP / (2ΣTP + ΣFP + ΣFN), sums over classes"

    def of_counts(self, right: Counts, predicted: Counts, true: Counts) -> Values:
        return quotient(2 * right.sum(axis=-1), (predicted + true).sum(axis=-1))


class F1Weighted(Averaged):
    """The mean over classes of F1, each weighted by how often it is true."""

    metric_name: ClassVar[str] = "f1_weighted"
    formula: ClassVar[str] = "Σ (TP + FN)·F1 / Σ (TP + FN), sums over classes"

    def of_counts(self, right: Counts, predicted: Counts, true: Counts) -> Values:
        return quotient((true * quotient(2 * right, predicted + true)).sum(axis=-1), true.sum(axis=-1))


class PrecisionMacro(Averaged):
    """The unweighted mean over classes of the precision, 0 of a class that is never predicted."""

    metric_name: ClassVar[str] = "precision_macro"
    formula: ClassVar[str] = "mean over classes of TP / (TP + FP)"

    def of_counts(self, right: Counts, predicted: Counts, true: Counts) -> Values:
        return _mean(quotient(right, predicted), predicted + true)


class RecallMacro(Averaged):
    """The unweighted mean over classes of the recall, 0 of a class that is predicted and never true."""

    metric_name: ClassVar[str] = "recall_macro"
    formula: ClassVar[str] = "mean over classes of TP / (TP + FN)"

    def of_counts(self, right: Counts, predicted: Counts, true: Counts) -> Values:
        return _mean(quotient(right, true), predicted + true)
