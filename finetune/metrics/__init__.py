"""Metrics by name, computed offline. The table gives each class as "module:class": naming one loads nothing."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from finetune.errors import SettingError, did_you_mean

if TYPE_CHECKING:
    from finetune.metrics.base import Metric

METRICS: dict[str, str] = {
    "accuracy": "finetune.metrics.classification:Accuracy",
    "f1_macro": "finetune.metrics.classification:F1Macro",
    "matthews_correlation": "finetune.metrics.classification:MatthewsCorrelation",
}


def load_metric(name: str) -> Metric:
    """Returns the metric called `name`; raises SettingError, with the choices, where there is none."""
    if name not in METRICS:
        raise SettingError("metrics", f'"{name}" is not one of {", ".join(METRICS)}{did_you_mean(name, METRICS)}')
    module, _, class_name = METRICS[name].partition(":")
    metric: Metric = getattr(import_module(module), class_name)()
    return metric


__all__ = ["METRICS", "load_metric"]
