"""What every metric has: a value by the `evaluate` protocol, and a standard error."""

from __future__ import annotations

from typing import Any, ClassVar

import datasets
import evaluate
import numpy as np

Labels = np.ndarray[Any, np.dtype[np.int64]]


class Metric(evaluate.Metric):  # type: ignore[misc]
    """An `evaluate.Metric` that needs no Hub and knows how sure its value is.

    Subclasses give `metric_name`, `formula`, `value` and `standard_error`. `compute` is the
    library's own: `metric.compute(predictions=…, references=…)` returns {metric_name: value}.
    """

    metric_name: ClassVar[str]
    formula: ClassVar[str]

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
        """Returns the standard error over the choice of examples, model and training held fixed."""
        raise NotImplementedError
