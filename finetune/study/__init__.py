"""Studies: many runs of one recipe, and the peak rates they are given."""

from finetune.study.engine import Outcome, plan_study, run_study

__all__ = ["Outcome", "plan_study", "run_study"]
