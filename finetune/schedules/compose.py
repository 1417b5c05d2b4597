"""How a factor is put together: a warmup, then a decay, held at both ends of the run.

The functions are pure; with their keywords bound by `functools.partial` they are factors that can be pickled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Factor = Callable[[int], float]
"""The number of updates already made ▶ the multiplier, in [0, 1], of each parameter group's peak rate."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """A run of `total_steps` updates (T), of which the first `warmup_steps` (W ≤ T) warm up."""

    total_steps: int
    warmup_steps: int
    updates_per_epoch: int | None

    @property
    def decay_steps(self) -> int:
        """The updates after the warmup, T − W."""
        return self.total_steps - self.warmup_steps


def warmed_up(step: int, *, decay: Factor, span: Span) -> float:
    """t/W for t < W, then decay(t − W); before 0 as at 0, after T as at T.

    `decay` takes the number of updates since the end of the warmup, 0 … T − W.
    """
    step = min(max(step, 0), span.total_steps)
    if step < span.warmup_steps:
        return step / span.warmup_steps
    return decay(step - span.warmup_steps)


def scaled(step: int, *, shape: Callable[[float], float], decay_steps: int, floor: float) -> float:
    """m + (1 − m)·shape(p): the whole shape between 1 and the floor m, at progress p = step/decay_steps."""
    return floor + (1.0 - floor) * shape(progress(step, decay_steps=decay_steps))


def progress(step: int, *, decay_steps: int) -> float:
    """step/decay_steps; 0 where the warmup takes the whole run and leaves no steps to decay in."""
    return step / decay_steps if decay_steps else 0.0
