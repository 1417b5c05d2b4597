"""Metrics by name, computed offline. The table says where the class of each is: naming one loads nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from finetune.errors import SettingError, did_you_mean, listed

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
    "balanced_accuracy": MetricRow("finetune.metrics.classification:BalancedAccuracy", ("classes",)),
    "f1": MetricRow("finetune.metrics.classification:F1", ("classes",)),
    "f1_macro": MetricRow("finetune.metrics.averages:F1Macro", ("classes", "label_sets")),
    "f1_micro": MetricRow("finetune.metrics.averages:F1Micro", ("classes", "label_sets")),
    "f1_weighted": MetricRow("finetune.metrics.averages:F1Weighted", ("classes", "label_sets")),
    "precision_macro": MetricRow("finetune.metrics.averages:PrecisionMacro", ("classes", "label_sets")),
    "recall_macro": MetricRow("finetune.metrics.averages:RecallMacro", ("classes", "label_sets")),
    "matthews_correlation": MetricRow("finetune.metrics.classification:MatthewsCorrelation", ("classes",)),
    "auroc": MetricRow("finetune.metrics.probabilities:Auroc", ("classes", "label_sets")),
    "calibration_error": MetricRow(
        "finetune.metrics.probabilities:CalibrationError", ("classes",), greater_is_better=False
    ),
    "exact_match": MetricRow("finetune.metrics.matching:ExactMatch", ("label_sets", "texts")),
    "answer_f1": MetricRow("finetune.metrics.matching:AnswerF1", ("texts",)),
    "pearson": MetricRow("finetune.metrics.regression:Pearson", ("numbers",)),
    "spearman": MetricRow("finetune.metrics.regression:Spearman", ("numbers",)),
    "mse": MetricRow("finetune.metrics.regression:MeanSquaredError", ("numbers",), greater_is_better=False),
    "rmse": MetricRow("finetune.metrics.regression:RootMeanSquaredError", ("numbers",), greater_is_better=False),
    "mae": MetricRow("finetune.metrics.regression:MeanAbsoluteError", ("numbers",), greater_is_better=False),
    "r2": MetricRow("finetune.metrics.regression:R2", ("numbers",)),
    "entity_f1": MetricRow("finetune.metrics.tagging:EntityF1", ("tags",)),
    "entity_precision": MetricRow("finetune.metrics.tagging:EntityPrecision", ("tags",)),
    "entity_recall": MetricRow("finetune.metrics.tagging:EntityRecall", ("tags",)),
    "token_accuracy": MetricRow("finetune.metrics.tokens:TokenAccuracy", ("tags", "tokens")),
    "perplexity": MetricRow("finetune.metrics.tokens:Perplexity", ("tokens",), greater_is_better=False),
}
"""The metrics by name; `register_metric` adds to it."""

HUB = "hub:"
"""Before a name of the Hub, or a folder, where `evaluate.load` finds a metric: hub:NAME, or hub:NAME.KEY."""
HUB_FORMS: tuple[Form, ...] = ("classes", "label_sets", "numbers", "tags", "texts")


def load_metric(name: str, *, trust_remote_code: bool = False) -> Metric:
    """Returns the metric called `name`; raises SettingError, with the choices, where there is none.

    hub:NAME is the one number of the metric that `evaluate.load(NAME)` gives, and hub:NAME.KEY its number called KEY.
    It is a program of others, so SettingError is raised unless `trust_remote_code`, and where it can't be had.
    """
    if name.startswith(HUB):
        from finetune.metrics.hub import load_from_hub

        source = _source(name)
        if not trust_remote_code:
            raise SettingError(
                "metrics", f'"{name}" is a program of others: read it, and set trust_remote_code if you trust it'
            )
        return load_from_hub(name, source)
    row = _row(name)
    if not isinstance(row.where, str):
        return row.where()
    module, _, class_name = row.where.partition(":")
    metric: Metric = getattr(import_module(module), class_name)()
    return metric


def check_metric(name: str, form: Form) -> None:
    """Raises SettingError where no metric is called `name`, or where it can't score answers of `form`.

    Whether a metric of the Hub exists is known only when it is loaded.
    """
    if form not in _forms(name):
        raise SettingError("metrics", f'"{name}" can\'t score {form}: give one of {", ".join(metrics_of(form))}')


def check_classes(metrics: Iterable[str], classes: Sequence[str]) -> None:
    """Raises SettingError for a metric that isn't of so many classes."""
    if "f1" in metrics and len(classes) > 2:
        raise not_of_two(len(classes), classes)


def not_of_two(count: int, names: Sequence[str]) -> SettingError:
    """Returns what is wrong with the metric f1 of `count` classes, called `names` if they have any."""
    named = f": {listed(names)}" if names else ""
    return SettingError("metrics", f'"f1" is of two classes, and there are {count}{named}; give f1_macro')


def metrics_of(form: Form) -> tuple[str, ...]:
    """Returns the names of the metrics that score answers of `form`."""
    return tuple(name for name, row in METRICS.items() if form in row.forms)


def greater_is_better(name: str) -> bool:
    """Returns whether more of a metric is better; raises SettingError for one of the Hub, which doesn't say."""
    if name.startswith(HUB):
        raise SettingError("metrics", f"\"{name}\" doesn't say whether more of it is better: it can't rank models")
    return _row(name).greater_is_better


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


def _source(name: str) -> str:
    source = name.removeprefix(HUB)
    if not source.strip("./ "):
        raise SettingError("metrics", f'"{name}" names no metric: give hub:NAME or hub:NAME.KEY')
    return source


def _forms(name: str) -> tuple[Form, ...]:
    return HUB_FORMS if name.startswith(HUB) and _source(name) else _row(name).forms


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


__all__ = [
    "FORMS",
    "HUB",
    "HUB_FORMS",
    "METRICS",
    "MetricRow",
    "check_classes",
    "check_metric",
    "greater_is_better",
    "load_metric",
    "metrics_of",
    "register_metric",
]
