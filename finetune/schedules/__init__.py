"""Learning-rate schedules as pure functions of the updates made, with adapters to torch and to transformers' Trainer.

The adapters load torch, and are imported on first use; all else needs the standard library only.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from finetune.schedules.base import (
    SCHEDULES,
    Schedule,
    Warmed,
    as_schedule,
    make_schedule,
    register_schedule,
    schedule_for,
)
from finetune.schedules.catalog import (
    Constant,
    Cosine,
    Exponential,
    InverseSqrt,
    Knee,
    Linear,
    Multistep,
    OneCycle,
    Polynomial,
    Rex,
    Step,
    WarmupStableDecay,
)
from finetune.schedules.compose import Factor, Span
from finetune.schedules.cycles import CosineRestarts, Cyclic
from finetune.schedules.durations import Duration, DurationLike, Run, parse_duration
from finetune.schedules.phases import Phase, Phases, Piecewise, Plateau, Product

if TYPE_CHECKING:
    from finetune.schedules.mixin import ScheduleMixin
    from finetune.schedules.refine import fitted, refined_factors
    from finetune.schedules.request import CooldownOnRequest
    from finetune.schedules.scheduler import ScheduledLR, make_scheduler

_ADAPTERS = {
    "CooldownOnRequest": "finetune.schedules.request",
    "fitted": "finetune.schedules.refine",
    "refined_factors": "finetune.schedules.refine",
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
    "CooldownOnRequest",
    "Cosine",
    "CosineRestarts",
    "Cyclic",
    "Duration",
    "DurationLike",
    "Exponential",
    "Factor",
    "InverseSqrt",
    "Knee",
    "Linear",
    "Multistep",
    "OneCycle",
    "Phase",
    "Phases",
    "Piecewise",
    "Plateau",
    "Polynomial",
    "Product",
    "Rex",
    "Run",
    "Schedule",
    "ScheduleMixin",
    "ScheduledLR",
    "Span",
    "Step",
    "Warmed",
    "WarmupStableDecay",
    "as_schedule",
    "fitted",
    "make_schedule",
    "make_scheduler",
    "parse_duration",
    "refined_factors",
    "register_schedule",
    "schedule_for",
]
