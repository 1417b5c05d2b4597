"""Metrics by name, computed offline. The table says where the class of each is: naming one loads nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from finetune.errors import SettingError, did_you_mean

if TYPE_CHECKING:
    from finetune.metrics.answers import Form
    from finetune.metrics.base import Metric

FORMS: tuple[Form, ...] = ("classes", "label_sets", "numbers", "tags", "texts", "tokens")
"""What a model may answer with; `finetune.metrics.answers.Answers` says what each is."""


@dataclass(frozen=True)
class MetricRow:
    """A metric in the table. `where`: its class, or "module:class"; `forms`: what it scores."""

    where: str | type[Metric]
    forms: tuple[Form, ...]
    greater_is_better: bool = True


METRICS: dict[str, MetricRow] = {
    "accuracy": MetricRow("finetune.metrics.classification:Accuracy", ("classes",)),
    "f1_macro": MetricRow("finetune.metrics.classification:F1Macro", ("classes",)),
    "matthews_correlation": MetricRow("finetune.metrics.classification:MatthewsCorrelation", ("classes",)),
}
"""The metrics by name; `register_metric` adds to it."""


def load_metric(name: str) -> Metric:
    """Returns the metric called `name`; raises SettingError, with the choices, where there is none."""
    row = _row(name)
    if not isinstance(row.where, str):
        return row.where()
    module, _, class_name = row.where.partition(":")
    metric: Metric = getattr(import_module(module), class_name)()
    return metric


def check_metric(name: str, form: Form) -> None:
    """Raises SettingError where no metric is called `name`, or where it can't score answers of `form`."""
    if form not in _row(name).forms:
        raise SettingError("metrics", f'"{name}" can\'t score {form}: give one of {", ".join(metrics_of(form))}')


def metrics_of(form: Form) -> tuple[str, ...]:
    """Returns the names of the metrics that score answers of `form`."""
    return tuple(name for name, row in METRICS.items() if form in row.forms)


Registered = TypeVar("Registered", bound="type[Metric]")


def register_metric(name: str) -> Callable[[Registered], Registered]:
    """Makes a metric available by `name`, in recipes and in `load_metric`.

    Decorates a class that extends Metric and has `formula`, `forms` and `value`. Raises SettingError for a class that
    lacks one of them, and for a name that is taken or isn't up to 50 letters, digits, and . _ + -.
    """
    if not re.fullmatch(r"\w[\w.+-]{0,49}", name):
        raise SettingError("register_metric", f"{name!r} must be up to 50 letters, digits, and . _ + -")

    def register(kind: Registered) -> Registered:
        problem = _problem_of(kind)
        if problem:
            raise SettingError("register_metric", f"{name}: {problem}")
        taken = METRICS.get(name)
        if taken is not None and _place(taken.where) != _place(kind):
            raise SettingError("register_metric", f'"{name}" is taken by {_place(taken.where)}: choose another')
        kind.metric_name = name
        METRICS[name] = MetricRow(kind, kind.forms, kind.greater_is_better)
        return kind

    return register


def _row(name: str) -> MetricRow:
    if name not in METRICS:
        raise SettingError("metrics", f'"{name}" is not one of {", ".join(METRICS)}{did_you_mean(name, METRICS)}')
    return METRICS[name]


def _problem_of(kind: Any) -> str:
    """Returns what a class to be registered lacks, or ""."""
    from finetune.metrics.base import Metric

    if not (isinstance(kind, type) and issubclass(kind, Metric)):
        return f"{kind!r} must extend Metric"
    if kind.value is Metric.value:
        return "value(answers) is missing"
    if not isinstance(getattr(kind, "formula", None), str):
        return "formula, a text, is missing"
    forms = getattr(kind, "forms", None)
    if not isinstance(forms, tuple) or not forms or not {*forms} <= {*FORMS}:
        return f"forms is {forms!r}, and must be a tuple of one or more of {', '.join(FORMS)}"
    return ""


def _place(where: str | type[Metric]) -> str:
    return where if isinstance(where, str) else f"{where.__module__}:{where.__qualname__}"


__all__ = ["FORMS", "METRICS", "MetricRow", "check_metric", "load_metric", "metrics_of", "register_metric"]
