"""Studies: many runs of one recipe, and the peak rates they are given."""

from finetune.study.engine import Outcome, run_study

__all__ = ["Outcome", "run_study"]
