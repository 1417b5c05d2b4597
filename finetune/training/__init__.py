"""Runs: from a recipe to a record."""

from finetune.training.fine_tuning import fine_tune
from finetune.training.material import Library
from finetune.training.plan import mean_factor
from finetune.training.processes import is_main_process, leave_together
from finetune.training.rate_curve import RateCurve, RateSearch, RateSpread
from finetune.training.rate_finder import find_rate
from finetune.training.run_directory import run_directory
from finetune.training.tracking import check_trackers

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
