"""Learning-rate schedules as pure functions of the updates made, with adapters to torch and to transformers' Trainer.

The adapters load torch, and are imported on first use; all else needs the standard library only.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from finetune.schedules.catalog import (
    SCHEDULES,
    Constant,
    Cosine,
    Exponential,
    Linear,
    Schedule,
    Step,
    make_schedule,
)
from finetune.schedules.durations import Duration, DurationLike, parse_duration

if TYPE_CHECKING:
    from finetune.schedules.mixin import ScheduleMixin
    from finetune.schedules.scheduler import ScheduledLR, make_scheduler

_ADAPTERS = {
    "ScheduleMixin": "finetune.schedules.mixin",
    "ScheduledLR": "finetune.schedules.scheduler",
    "make_scheduler": "finetune.schedules.scheduler",
}


def __getattr__(name: str) -> Any:
    if name not in _ADAPTERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_ADAPTERS[name]), name)


def __dir__() -> list[str]:
    return sorted(globals().keys() | _ADAPTERS.keys())


__all__ = [
    "SCHEDULES",
    "Constant",
    "Cosine",
    "Duration",
    "DurationLike",
    "Exponential",
    "Linear",
    "Schedule",
    "ScheduleMixin",
    "ScheduledLR",
    "Step",
    "make_schedule",
    "make_scheduler",
    "parse_duration",
]
