"""The schedules that rise again: warm restarts and triangles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Self

from finetune.errors import SettingError
from finetune.schedules import settings
from finetune.schedules.base import Warmed, register_schedule, steps_of
from finetune.schedules.compose import Curve, Span
from finetune.schedules.durations import DurationLike, parse_duration
from finetune.schedules.elementwise import Numbers, at_least, choose, is_number, passed, taken
from finetune.schedules.settings import setting
from finetune.schedules.shapes import cosine


@dataclass(frozen=True)
class Cycles:
    """Where cycles lie: cycle i has the updates from `starts[i]` on, and (t − `origins[i]`)/`lengths[i]` of it is over.

    Where all are alike, `origins` is `starts` and `lengths` has one item.
    """

    starts: Sequence[int]
    origins: Sequence[float]
    lengths: Sequence[float]

    def locate(self, step: Numbers) -> tuple[Numbers, Numbers, Numbers]:
        """Returns, at `step`, the cycle's index, the updates since its origin, and its length."""
        index = passed(step, self.starts) - 1
        length = self.lengths[0] if len(self.lengths) == 1 else taken(self.lengths, index)
        return index, step - taken(self.origins, index), length


@register_schedule("cosine_restarts")
@dataclass(frozen=True, kw_only=True)
class CosineRestarts(Warmed):
    """Cosine falls, each begun afresh from the peak (SGDR): cycles of equal length, or from a first length on."""

    formula = "m + (dⁱ − m)(1 + cos πq)/2, at q of the way of cycle i"
    source = "Loshchilov and Hutter 2017, arXiv 1608.03983"
    cycles: int | None = setting(
        None, settings.optional(settings.whole(1)), "how many cycles of equal length; 4 unless first is given"
    )
    first: DurationLike | None = setting(
        None, settings.optional(settings.interval), "T₀, the length of cycle 0, instead of cycles"
    )
    growth: float = setting(1.0, settings.positive, "μ; cycle i is T₀·μⁱ long")
    decay: float = setting(1.0, settings.ratio, "d; cycle i begins at dⁱ of the peak")
    cycle_warmup: DurationLike = setting(0, settings.duration, "how long each cycle climbs from the floor", quiet=True)

    def _conflicts(self) -> list[SettingError]:
        problems = super()._conflicts()
        if self.cycles is not None and self.first is not None:
            problems.append(
                SettingError("first", f"{self.first} and cycles {self.cycles} both set the lengths: give one of them")
            )
        if self.growth != 1 and self.first is None:
            problems.append(SettingError("growth", f"{self.growth} has no effect without first: give first too"))
        return problems

    def _decay(self, span: Span) -> Curve:
        whole = span.run.total_steps - span.warmup_steps
        if self.first is None:
            cycles = _equal_cycles(self.cycles or 4, whole, inclusive=span.inclusive)
        else:
            first = steps_of(self.first, "first", span.run)
            cycles = _growing_cycles(first, Fraction(str(self.growth)), whole, inclusive=span.inclusive)
        climb = steps_of(self.cycle_warmup, "cycle_warmup", span.run)
        if climb and climb >= min(cycles.lengths, default=0):
            raise SettingError(
                "cycle_warmup",
                f"{climb} updates leave no fall in a cycle of {min(cycles.lengths):g}: shorten it",
            )
        return _Restarts(cycles, self.decay, climb, span.floor)


@dataclass(frozen=True)
class _Restarts:
    cycles: Cycles
    decay: float
    climb: int
    floor: float

    def __call__(self, step: Numbers) -> Numbers:
        index, since, length = self.cycles.locate(step)
        top = at_least(self.decay ** (index * 1.0), self.floor)
        falling = _share(since - self.climb, length - self.climb)
        way = 1.0 - cosine(falling)
        if self.climb:
            way = choose(since < self.climb, since / self.climb, way)
        return self.floor + (top - self.floor) * way


def _share(part: Numbers, whole: Numbers) -> Numbers:
    """part/whole within [0, 1]; 0 where there is no whole."""
    if is_number(part) and is_number(whole):
        return min(max(part / whole, 0.0), 1.0) if whole else 0.0
    import numpy as np

    return np.clip(np.divide(part, whole, out=np.zeros(np.shape(part)), where=np.asarray(whole) > 0), 0.0, 1.0)


def _equal_cycles(count: int, whole: int, *, inclusive: bool) -> Cycles:
    """Returns `count` cycles of whole/count updates: exactly, or, where inclusive, in whole updates."""
    if whole == 0:
        return Cycles((0,), (0,), (0,))
    if count > whole:
        raise SettingError("cycles", f"{count} cycles are more than the {whole} updates after the warmup: take fewer")
    starts = tuple(-(-number * whole // count) for number in range(count))
    if inclusive:
        return _whole_cycles(starts, whole)
    return Cycles(starts, tuple(number * whole / count for number in range(count)), (whole / count,))


def _growing_cycles(first: int, growth: Fraction, whole: int, *, inclusive: bool) -> Cycles:
    """Returns cycles of T₀·μⁱ updates up to `whole`, their boundaries found in exact fractions, not by a logarithm."""
    if growth == 1:
        starts = range(0, max(1, whole), first)
        return Cycles(starts, starts, (max(0, first - inclusive),))
    origins, length = [Fraction(0)], Fraction(first)
    lengths = [length]
    while origins[-1] + length < whole:
        origins.append(origins[-1] + length)
        length *= growth
        if length < 1:
            raise SettingError(
                "growth",
                f"{float(growth):g} makes cycle {len(lengths)} shorter than 1 update, after {math.floor(origins[-1])} "
                f"of {whole}: raise it, or first",
            )
        lengths.append(length)
    begins = tuple(math.ceil(origin) for origin in origins)
    if inclusive:
        return _whole_cycles(begins, begins[-1] + math.ceil(lengths[-1]))
    return Cycles(begins, tuple(map(float, origins)), tuple(map(float, lengths)))


def _whole_cycles(starts: tuple[int, ...], end: int) -> Cycles:
    return Cycles(
        starts, starts, tuple(stop - start - 1 for start, stop in zip(starts, (*starts[1:], end), strict=True))
    )


@register_schedule("cyclic")
@dataclass(frozen=True, kw_only=True)
class Cyclic(Warmed):
    """Triangles between the floor and the peak, of even or falling height; it begins at the floor."""

    formula = "m + (1 − m)·(τ rising over u, falling over v)·a; a is 1, 2⁻ⁱ in cycle i, or γ^τ"
    source = "Smith 2017, arXiv 1506.01186"
    up: DurationLike = setting("10%", settings.interval, "u, the updates from the floor to the peak")
    down: DurationLike | None = setting(None, settings.optional(settings.interval), "v; u unless given")
    mode: str = setting(
        "triangular", settings.one_of(("triangular", "triangular2", "exp_range")), "a, how the height falls"
    )
    gamma: float = setting(1.0, settings.ratio, "γ, the fraction that exp_range leaves after each update")

    def _conflicts(self) -> list[SettingError]:
        problems = super()._conflicts()
        if parse_duration(self.warmup, field="warmup").amount:
            problems.append(SettingError("warmup", f"{self.warmup}: cyclic begins at its floor: leave the warmup out"))
        if self.gamma != 1 and self.mode != "exp_range":
            problems.append(SettingError("gamma", f"{self.gamma} has no effect in mode {self.mode}: use exp_range"))
        return problems

    def rescaled(self, by: Fraction) -> Self:
        """Returns the schedule of a run `by` times as long: γ, what is left after an update, is raised to 1/by."""
        return replace(super().rescaled(by), gamma=self.gamma ** float(1 / by))

    def _decay(self, span: Span) -> Curve:
        up = steps_of(self.up, "up", span.run)
        down = up if self.down is None else steps_of(self.down, "down", span.run)
        return _Triangles(up, down, self.mode, self.gamma, span.floor)


@dataclass(frozen=True)
class _Triangles:
    up: int
    down: int
    mode: str
    gamma: float
    floor: float

    def __call__(self, step: Numbers) -> Numbers:
        length = self.up + self.down
        cycle, since = step // length, step % length
        height = choose(since <= self.up, since / self.up, (length - since) / self.down)
        if self.mode == "triangular2":
            height = height * 0.5 ** (cycle * 1.0)
        elif self.mode == "exp_range":
            height = height * self.gamma ** (step * 1.0)
        return self.floor + (1.0 - self.floor) * height
