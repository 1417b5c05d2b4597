"""Runs: from a recipe to a record."""

from finetune.training.fine_tuning import fine_tune
from finetune.training.processes import leave_together

__all__ = ["fine_tune", "leave_together"]
