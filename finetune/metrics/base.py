"""What every metric has: a value, a standard error, and itself in the form of the `evaluate` library."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    import evaluate

Labels = np.ndarray[Any, np.dtype[np.int64]]


class Metric:
    """A metric that needs no Hub and knows how sure its value is.

    Subclasses give `metric_name`, `formula`, `value` and `standard_error`. `compute` is that of `evaluate`:
    `metric.compute(predictions=…, references=…)` returns {metric_name: value}.
    """

    metric_name: ClassVar[str]
    formula: ClassVar[str]

    def value(self, predictions: Labels, references: Labels) -> float:
        """Returns the metric of n predicted against n true class numbers."""
        raise NotImplementedError

    def standard_error(self, predictions: Labels, references: Labels) -> float:
        """Returns the standard error over the choice of examples, model and training held fixed."""
        raise NotImplementedError

    @cached_property
    def in_evaluate(self) -> evaluate.Metric:
        """The metric as an `evaluate.Metric`, for what is made of those; importing that library takes a second."""
        from finetune.metrics.in_evaluate import MetricInEvaluate

        return MetricInEvaluate(self)

    def compute(self, **arguments: Any) -> Any:
        """Returns {metric_name: value}, as `evaluate.Metric.compute` does."""
        return self.in_evaluate.compute(**arguments)
