"""Runs: from a recipe to a record."""

from finetune.training.fine_tuning import fine_tune
from finetune.training.processes import leave_together
from finetune.training.rate_curve import RateCurve, RateSearch, RateSpread
from finetune.training.rate_finder import find_rate

__all__ = ["RateCurve", "RateSearch", "RateSpread", "find_rate", "fine_tune", "leave_together"]
