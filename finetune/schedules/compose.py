"""How a factor is put together: curves in sequence, held at both ends of the run.

All are frozen and pure: they can be pickled, compared, and asked for any update in any order.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

from finetune.schedules.durations import Run
from finetune.schedules.elementwise import Numbers, clipped, is_number, passed
from finetune.schedules.shapes import travelled

if TYPE_CHECKING:
    import numpy as np

Curve = Callable[[Numbers], Numbers]
"""Updates made since the curve's start ▶ the multiplier of the peak rate; of one number, or of an array of them."""


class Factor:
    """The number of updates already made ▶ the multiplier of each parameter group's peak rate.

    Pure and in closed form. One update gives a float; a numpy array of updates gives an array of as many floats.
    """

    @overload
    def __call__(self, step: int) -> float: ...

    @overload
    def __call__(self, step: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]: ...

    def __call__(self, step: Numbers) -> Numbers:
        raise NotImplementedError


@dataclass(frozen=True)
class Held(Factor):
    """`curve` from 0 to `last`; before 0 as at 0, after `last` as at `last`."""

    curve: Curve
    last: int

    def __call__(self, step: Numbers) -> Numbers:
        if isinstance(step, int) and 0 <= step <= self.last:
            return self.curve(step)
        return self.curve(clipped(step, 0, self.last))


@dataclass(frozen=True)
class Product(Factor):
    """The product of several factors."""

    factors: tuple[Curve, ...]

    def __call__(self, step: Numbers) -> Numbers:
        product = self.factors[0](step)
        for factor in self.factors[1:]:
            product = product * factor(step)
        return product


@dataclass(frozen=True)
class Scaled(Factor):
    """`curve` times `by`."""

    curve: Curve
    by: float

    def __call__(self, step: Numbers) -> Numbers:
        return self.by * self.curve(step)


@dataclass(frozen=True)
class Late(Factor):
    """`curve` from update `start` on, and 0 before."""

    curve: Curve
    start: int

    def __call__(self, step: Numbers) -> Numbers:
        if is_number(step):
            return self.curve(step) if step >= self.start else 0.0
        return self.curve(step) * (step >= self.start)


def late(curve: Factor, start: int) -> Factor:
    """Returns `curve` from update `start` on, and 0 before."""
    return Late(curve, start) if start else curve


@dataclass(frozen=True)
class Sequel(Factor):
    """Curves one after another: the i-th from update `starts[i]` on, told the updates since then; `starts[0]` is 0."""

    starts: tuple[int, ...]
    curves: tuple[Curve, ...]

    def __call__(self, step: Numbers) -> Numbers:
        if isinstance(step, (int, float)):
            index = bisect_right(self.starts, step) - 1
            return self.curves[index](step - self.starts[index])
        import numpy as np

        values = np.empty(np.shape(step))
        owner = passed(step, self.starts) - 1
        for index in np.unique(owner):
            mine = owner == index
            values[mine] = self.curves[index](step[mine] - self.starts[index])
        return values


def in_sequence(parts: Sequence[tuple[int, Curve]]) -> Curve:
    """Returns curves of so many updates each as one; a part of no updates is left out, unless it is the last."""
    starts, curves, start = [], [], 0
    for number, (steps, curve) in enumerate(parts):
        if steps or number == len(parts) - 1:
            starts.append(start)
            curves.append(curve)
        start += steps
    return curves[0] if len(curves) == 1 else Sequel(tuple(starts), tuple(curves))


@dataclass(frozen=True)
class Level:
    """Always `value`."""

    value: float = 1.0

    def __call__(self, step: Numbers) -> Numbers:
        return self.value if is_number(step) else step * 0.0 + self.value


@dataclass(frozen=True)
class Way:
    """From `start` to `end` over `steps` updates, in a shape by name; update t is made at (t + ahead)/steps."""

    start: float
    end: float
    steps: int
    shape: str = "linear"
    ahead: int = 0

    def __call__(self, step: Numbers) -> Numbers:
        return travelled(progress(step + self.ahead, self.steps), self.start, self.end, self.shape)


def progress(step: Numbers, steps: int) -> Numbers:
    """step/steps; 0 where there are no steps, because the warmup takes the whole run."""
    return step / steps if steps else step * 0.0


@dataclass(frozen=True, kw_only=True)
class Span:
    """What a decay is laid out over: `run`, whose first `warmup_steps` (W) warm up, down to the `floor` (m).

    `inclusive`: the last update is at the end of the decay, not one before it.
    """

    run: Run
    warmup_steps: int
    inclusive: bool
    floor: float

    @property
    def decay_steps(self) -> int:
        """D, the updates from the end of the warmup to the end of the decay: T − W, or T − 1 − W if inclusive."""
        return max(0, self.run.total_steps - self.inclusive - self.warmup_steps)
