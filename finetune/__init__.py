"""Fine-tune pretrained models under any learning-rate schedule, and compare schedules with evidence.

The names below are loaded when they are first used: importing the package loads none of the libraries underneath.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finetune.errors import FinetuneError
    from finetune.evaluation.comparison import compare
    from finetune.evaluation.record import RunRecord, read_record
    from finetune.inference.predictor import load_run
    from finetune.metrics import register_metric
    from finetune.recipe import Recipe, load_recipe
    from finetune.schedules import CooldownOnRequest, ScheduleMixin, make_schedule, make_scheduler, register_schedule
    from finetune.tasks import register_task
    from finetune.training import fine_tune

_HOMES = {
    "CooldownOnRequest": "finetune.schedules",
    "FinetuneError": "finetune.errors",
    "Recipe": "finetune.recipe",
    "RunRecord": "finetune.evaluation.record",
    "ScheduleMixin": "finetune.schedules",
    "compare": "finetune.evaluation.comparison",
    "fine_tune": "finetune.training",
    "load_recipe": "finetune.recipe",
    "load_run": "finetune.inference.predictor",
    "make_schedule": "finetune.schedules",
    "make_scheduler": "finetune.schedules",
    "read_record": "finetune.evaluation.record",
    "register_metric": "finetune.metrics",
    "register_schedule": "finetune.schedules",
    "register_task": "finetune.tasks",
}

__all__ = [
    "CooldownOnRequest",
    "FinetuneError",
    "Recipe",
    "RunRecord",
    "ScheduleMixin",
    "compare",
    "fine_tune",
    "load_recipe",
    "load_run",
    "make_schedule",
    "make_scheduler",
    "read_record",
    "register_metric",
    "register_schedule",
    "register_task",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
