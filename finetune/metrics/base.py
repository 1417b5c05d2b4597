"""What every metric has: a value by the `evaluate` protocol, and a standard error."""

from __future__ import annotations

from typing import Any, ClassVar

import datasets
import evaluate
import numpy as np

Labels = np.ndarray[Any, np.dtype[np.int64]]


class Metric(evaluate.Metric):  # type: ignore[misc]
    """An `evaluate.Metric` that needs no Hub and knows how sure its value is.

    Subclasses give `metric_name`, `formula` and `value(predictions, references)`. `compute` is the
    library's own: `metric.compute(predictions=…, references=…)` returns {metric_name: value}.
    """

    metric_name: ClassVar[str]
    formula: ClassVar[str]
    resamples: ClassVar[int] = 200

    def __init__(self) -> None:
        super().__init__(keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.formula,
            citation=self.__doc__ or "",
            features=datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}),
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {self.metric_name: self.value(np.asarray(predictions), np.asarray(references))}

    def value(self, predictions: Labels, references: Labels) -> float:
        """Returns the metric of n predicted against n true class numbers."""
        raise NotImplementedError

    def standard_error(self, predictions: Labels, references: Labels) -> float:
        """Returns the standard error over the choice of examples, model and training held fixed.

        By the bootstrap over examples (Efron 1979): the standard deviation over `resamples` draws of n examples with
        replacement, from a generator of fixed seed, so that the same predictions always give the same figure.
        """
        generator = np.random.default_rng(0)
        draws = generator.integers(len(references), size=(self.resamples, len(references)))
        return float(np.std([self.value(predictions[rows], references[rows]) for rows in draws], ddof=1))
