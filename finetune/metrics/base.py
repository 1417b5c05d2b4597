"""What every metric has: a value, a standard error, and itself in the form of the `evaluate` library."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from finetune.errors import SettingError
from finetune.metrics.answers import Answers, Form

if TYPE_CHECKING:
    import evaluate

Values = np.ndarray[Any, np.dtype[np.float64]]
Rows = np.ndarray[Any, np.dtype[np.int64]]

RESAMPLES = 200
"""How many times the bootstrap draws n examples: a standard error is then itself known to 1/√400, 5%."""
CELLS = 2**21
"""How many numbers of the draws are held at once, but for a single draw that has more."""


class Metric:
    """A metric that needs no Hub and knows how sure its value is.

    Subclasses give `metric_name`, `formula`, the `forms` of answers that they score, and `value`; where less is better,
    `greater_is_better`; where probabilities are needed, `needs_scores`. `compute` is that of `evaluate`:
    `metric.compute(predictions=…, references=…)`, with `prediction_scores=…` where those are needed, returns
    {metric_name: value}.
    """

    metric_name: ClassVar[str]
    formula: ClassVar[str]
    forms: ClassVar[tuple[Form, ...]]
    greater_is_better: ClassVar[bool] = True
    needs_scores: ClassVar[bool] = False

    def value(self, answers: Answers) -> float:
        """Returns the metric of n examples, NaN where it is undefined, as it is of none."""
        raise NotImplementedError

    def of_each(self, answers: Answers) -> Values | None:
        """Returns what each example scores, shape (n,), where the metric is the mean of that; else None."""
        return None

    def standard_error(self, answers: Answers) -> float:
        """Returns the standard error over the choice of examples, model and training held fixed; NaN where unknown.

        It is that of the bootstrap over examples (Efron 1979): the standard deviation over `RESAMPLES` draws of n
        examples with replacement, from a generator of fixed seed, so that the same answers always give the same figure.
        """
        return spread([self.value(answers.take(rows)) for rows in draws(len(answers))])

    @cached_property
    def in_evaluate(self) -> evaluate.Metric:
        """The metric as an `evaluate.Metric`, for what is made of those; importing that library takes a second."""
        from finetune.metrics.in_evaluate import MetricInEvaluate

        return MetricInEvaluate(self)

    def compute(self, **arguments: Any) -> Any:
        """Returns {metric_name: value}, as `evaluate.Metric.compute` does."""
        return self.in_evaluate.compute(**arguments)


class WeightedMetric(Metric):
    """A metric of examples that each count a whole number of times: the bootstrap is then a few products of arrays."""

    def weighted(self, answers: Answers) -> Callable[[Values], Values]:
        """Returns a function from weights, of shape (draws, n), to the metric of each draw, NaN where undefined."""
        raise NotImplementedError

    def value(self, answers: Answers) -> float:
        with np.errstate(all="ignore"):
            return float(self.weighted(answers)(np.ones((1, len(answers))))[0]) if len(answers) else math.nan

    def standard_error(self, answers: Answers) -> float:
        if not len(answers):
            return math.nan
        with np.errstate(all="ignore"):
            of_weights = self.weighted(answers)
            return spread(np.concatenate([of_weights(each) for each in _weights(len(answers))]))


class SumMetric(WeightedMetric):
    """A metric that sums over examples say. Subclasses give `statistics` and `of_sums`."""

    def statistics(self, answers: Answers) -> Values:
        """Returns the k numbers of each example whose sums say the metric, of shape (n, k)."""
        raise NotImplementedError

    def of_sums(self, sums: Values) -> Values:
        """Returns the metric, of shape (…), of sums of shape (…, k), NaN where undefined."""
        raise NotImplementedError

    def weighted(self, answers: Answers) -> Callable[[Values], Values]:
        statistics = self.statistics(answers)
        return lambda weights: self.of_sums(weights @ statistics)


class MeanMetric(Metric):
    """The mean of a number that each example has; its standard error is the plug-in σ/√n. Subclasses give `of_each`."""

    def of_each(self, answers: Answers) -> Values:
        """Returns the n numbers."""
        raise NotImplementedError

    def value(self, answers: Answers) -> float:
        with np.errstate(all="ignore"):
            return float(np.mean(self.of_each(answers))) if len(answers) else math.nan

    def standard_error(self, answers: Answers) -> float:
        with np.errstate(all="ignore"):
            return float(np.std(self.of_each(answers))) / math.sqrt(len(answers)) if len(answers) else math.nan


def draws(count: int) -> Iterator[Rows]:
    """Yields `RESAMPLES` draws of `count` positions with replacement, each time the same ones; none of no examples."""
    generator = np.random.default_rng(0)
    for _ in range(RESAMPLES if count else 0):
        yield generator.integers(count, size=count)


def probabilities(metric: Metric, answers: Answers) -> Values:
    """Returns the answers' scores; raises SettingError where there are none."""
    if answers.scores is None:
        raise SettingError("metrics", f'"{metric.metric_name}" needs probabilities, and there are none: leave it out')
    return np.asarray(answers.scores, dtype=float)


def spread(values: Any) -> float:
    """Returns the standard deviation of the finite `values`, exactly 0 of equal ones; NaN of fewer than two."""
    finite = np.asarray(values, dtype=float)
    finite = finite[np.isfinite(finite)]
    if len(finite) < 2:
        return math.nan
    return float(np.std(finite, ddof=1)) if finite.min() < finite.max() else 0.0


def quotient(above: Any, below: Any, *, undefined: float = 0.0) -> Values:
    """Returns above / below, and `undefined` where `below` is 0 or negative; NaN of NaN."""
    above, below = np.broadcast_arrays(np.asarray(above, dtype=float), np.asarray(below, dtype=float))
    result: Values = np.divide(above, below, out=np.full(above.shape, undefined, dtype=float), where=~(below <= 0))
    return result


def _weights(count: int) -> Iterator[Values]:
    """Yields how often each of `count` examples is in each of the `draws`, as many draws at once as memory is for."""
    block: list[Values] = []
    for rows in draws(count):
        block.append(np.bincount(rows, minlength=count).astype(float))
        if len(block) * count >= CELLS:
            yield np.stack(block)
            block = []
    if block:
        yield np.stack(block)
