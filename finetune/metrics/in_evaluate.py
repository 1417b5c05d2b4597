"""A metric of ours as one of the `evaluate` library."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
import numpy as np

from finetune.metrics.base import Metric


class MetricInEvaluate(evaluate.Metric):  # type: ignore[misc]
    """Computes what `metric` does by `evaluate`'s protocol, without the Hub."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        super().__init__(keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self._metric.formula,
            citation=self._metric.__doc__ or "",
            features=datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}),
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        value = self._metric.value(np.asarray(predictions), np.asarray(references))
        return {self._metric.metric_name: value}
