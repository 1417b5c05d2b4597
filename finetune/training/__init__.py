"""Runs: from a recipe to a record.

The names below are loaded when they are first used: where a run lies and what it is made from can be known without
torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Also the name of a module: loaded later, that would take its place.
from finetune.training.run_directory import run_directory

if TYPE_CHECKING:
    from finetune.training.fine_tuning import fine_tune
    from finetune.training.material import Library
    from finetune.training.plan import mean_factor
    from finetune.training.processes import is_main_process, leave_together
    from finetune.training.rate_curve import RateCurve, RateSearch, RateSpread
    from finetune.training.rate_finder import find_rate
    from finetune.training.tracking import check_trackers

_HOMES = {
    "Library": "finetune.training.material",
    "RateCurve": "finetune.training.rate_curve",
    "RateSearch": "finetune.training.rate_curve",
    "RateSpread": "finetune.training.rate_curve",
    "check_trackers": "finetune.training.tracking",
    "find_rate": "finetune.training.rate_finder",
    "fine_tune": "finetune.training.fine_tuning",
    "is_main_process": "finetune.training.processes",
    "leave_together": "finetune.training.processes",
    "mean_factor": "finetune.training.plan",
}

__all__ = [
    "Library",
    "RateCurve",
    "RateSearch",
    "RateSpread",
    "check_trackers",
    "find_rate",
    "fine_tune",
    "is_main_process",
    "leave_together",
    "mean_factor",
    "run_directory",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
