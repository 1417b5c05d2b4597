"""Studies: many runs of one recipe, and the peak rates they are given.

The names below are loaded when they are first used: a worker elsewhere is asked what it has before it loads torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finetune.study.running import Outcome, plan_study, run_study

__all__ = ["Outcome", "plan_study", "run_study"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from finetune.study import running

    return getattr(running, name)
