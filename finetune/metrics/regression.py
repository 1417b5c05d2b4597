"""Metrics of predicted against true numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from finetune.metrics.answers import Answers, Form
from finetune.metrics.base import MeanMetric, SumMetric, Values, WeightedMetric, quotient

NUMBERS: tuple[Form, ...] = ("numbers",)
_CONSTANT = 1e-12  # of the mean square, a variance that is rounding alone


class MeanSquaredError(MeanMetric):
    """The mean squared difference; lower is better."""

    metric_name: ClassVar[str] = "mse"
    formula: ClassVar[str] = "Σ (ŷ − y)² / n"
    forms: ClassVar[tuple[Form, ...]] = NUMBERS
    greater_is_better: ClassVar[bool] = False

    def of_each(self, answers: Answers) -> Values:
        return _errors(answers) ** 2


class MeanAbsoluteError(MeanMetric):
    """The mean absolute difference; lower is better."""

    metric_name: ClassVar[str] = "mae"
    formula: ClassVar[str] = "Σ |ŷ − y| / n"
    forms: ClassVar[tuple[Form, ...]] = NUMBERS
    greater_is_better: ClassVar[bool] = False

    def of_each(self, answers: Answers) -> Values:
        return np.abs(_errors(answers))


class RootMeanSquaredError(SumMetric):
    """The root of the mean squared difference; lower is better. NaN of no examples."""

    metric_name: ClassVar[str] = "rmse"
    formula: ClassVar[str] = "√(Σ (ŷ − y)² / n)"
    forms: ClassVar[tuple[Form, ...]] = NUMBERS
    greater_is_better: ClassVar[bool] = False

    def statistics(self, answers: Answers) -> Values:
        squares = _errors(answers) ** 2
        return np.stack([squares, np.ones_like(squares)], axis=-1)

    def of_sums(self, sums: Values) -> Values:
        root: Values = np.sqrt(quotient(sums[..., 0], sums[..., 1], undefined=math.nan))
        return root


class R2(SumMetric):
    """The share of the variance that is explained, from −∞ to 1; NaN where the true numbers are all the same."""

    metric_name: ClassVar[str] = "r2"
    formula: ClassVar[str] = "1 − Σ (ŷ − y)² / Σ (y − ȳ)²"
    forms: ClassVar[tuple[Form, ...]] = NUMBERS

    def statistics(self, answers: Answers) -> Values:
        true, scale = _standardised(answers.references)
        errors = _errors(answers) / scale
        return np.stack([errors**2, true, true**2, np.ones_like(true)], axis=-1)

    def of_sums(self, sums: Values) -> Values:
        squared_errors, true, squares, count = np.moveaxis(sums, -1, 0)
        return 1 - quotient(squared_errors, _variation(true, squares, count), undefined=math.nan)


class Pearson(SumMetric):
    """The linear correlation, in [−1, 1]; 0 where either is constant, as one example is."""

    metric_name: ClassVar[str] = "pearson"
    formula: ClassVar[str] = "cov(ŷ, y) / √(var ŷ · var y)"
    forms: ClassVar[tuple[Form, ...]] = NUMBERS

    def statistics(self, answers: Answers) -> Values:
        x, y = (_standardised(column)[0] for column in (answers.predictions, answers.references))
        return np.stack([x, y, x**2, y**2, x * y, np.ones_like(x)], axis=-1)

    def of_sums(self, sums: Values) -> Values:
        x, y, xx, yy, xy, count = np.moveaxis(sums, -1, 0)
        covariation = xy - quotient(x * y, count)
        return _correlation(covariation, _variation(x, xx, count), _variation(y, yy, count))


class Spearman(WeightedMetric):
    """The linear correlation of ranks, equal numbers sharing the mean of theirs; 0 where either is constant."""

    metric_name: ClassVar[str] = "spearman"
    formula: ClassVar[str] = "cov(rank ŷ, rank y) / √(var rank ŷ · var rank y)"
    forms: ClassVar[tuple[Form, ...]] = NUMBERS

    def weighted(self, answers: Answers) -> Callable[[Values], Values]:
        columns = [np.asarray(column, dtype=float) for column in (answers.predictions, answers.references)]
        if np.isnan(columns).any():
            return lambda weights: np.full(len(weights), math.nan)
        ranks_of_x, ranks_of_y = map(_centred_ranks, columns)

        def of_weights(weights: Values) -> Values:
            x, y = ranks_of_x(weights), ranks_of_y(weights)
            covariation, of_x, of_y = ((weights * a * b).sum(axis=1) for a, b in ((x, y), (x, x), (y, y)))
            return _correlation(covariation, of_x, of_y)

        return of_weights


def _centred_ranks(values: Values) -> Callable[[Values], Values]:
    """Returns the ranks less their mean, of shape (draws, n), as a function of weights of that shape."""
    groups, numbers = np.unique(values, return_inverse=True)

    def of_weights(weights: Values) -> Values:
        sizes = np.stack([np.bincount(numbers, weights=each, minlength=len(groups)) for each in weights])
        ranks = np.cumsum(sizes, axis=1) - (sizes - 1) / 2
        centred: Values = ranks[:, numbers] - (weights.sum(axis=1, keepdims=True) + 1) / 2
        return centred

    return of_weights


def _errors(answers: Answers) -> Values:
    errors: Values = np.asarray(answers.predictions, dtype=float) - np.asarray(answers.references, dtype=float)
    return errors


def _standardised(column: Any) -> tuple[Values, float]:
    """Returns the column less its mean, within [−1, 1], and what it was divided by; exactly 0 of a constant.

    Sums of its squares then neither overflow nor cancel.
    """
    values = np.asarray(column, dtype=float)
    if not len(values) or values.min() == values.max():
        return np.zeros_like(values), 1.0
    centred = values - values.mean()
    scale = float(np.abs(centred).max())
    return centred / scale, scale


def _variation(total: Values, squares: Values, count: Values) -> Values:
    """Returns Σ (x − x̄)², from Σ x, Σ x² and n, and 0 where it is rounding alone."""
    variation = squares - quotient(total**2, count)
    known: Values = np.where(variation <= _CONSTANT * squares, 0.0, variation)
    return known


def _correlation(covariation: Values, of_x: Values, of_y: Values) -> Values:
    correlation: Values = np.clip(quotient(covariation, np.sqrt(of_x * of_y)), -1, 1)
    return correlation
