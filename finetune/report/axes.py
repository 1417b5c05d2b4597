"""Scales from values to pixels, with ticks at round numbers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from markupsafe import Markup

from finetune.figures.curves import Span, number, scaled
from finetune.report import svg
from finetune.report.legend import Paint

MARGIN = 0.04
LEAST_SHARE = 0.25
CLOSEST = 46  # in pixels, so that the numbers of two ticks stand apart


@dataclass(frozen=True)
class Axis:
    """A scale on which `low` is at the pixel `start` and `high` at `end`.

    `most`: how many ticks there is room for; `wanted`: where they should be, if there is room for all of these.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    most: int = 6
    wanted: tuple[float, ...] = ()

    def place(self, value: float) -> float:
        """Returns the pixel of `value`."""
        return self.start + (self.end - self.start) * scaled(value, (self.low, self.high), log_x=self.log)

    @cached_property
    def ticks(self) -> tuple[float, ...]:
        """The wanted ones, or else the round numbers on it."""
        places = sorted(map(self.place, self.wanted))
        if places and all(right - left >= CLOSEST for left, right in itertools.pairwise(places)):
            return self.wanted
        if self.log:
            return tuple(_log_ticks(self.low, self.high, self.most))
        step = _step((self.high - self.low) / self.most)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return tuple(place * step for place in range(first, last + 1))

    @property
    def labels(self) -> list[str]:
        """The ticks in figures, all with as many decimals."""
        largest = max(map(abs, self.ticks), default=0.0)
        if self.log or not 0.01 <= largest < 1e6:
            return [number(tick) for tick in self.ticks]
        decimals = max(0, -math.floor(math.log10(_step((self.high - self.low) / self.most)) + 1e-9))
        return [f"{tick:,.{decimals}f}".replace("-", "−") for tick in self.ticks]


def _step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        ticks = [float(f"{digit}e{power}") for power in powers for digit in digits]
        ticks = [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]
        if len(ticks) <= most:
            break
    return ticks[:: math.ceil(len(ticks) / most) or 1]


def padded(values: Iterable[float], *, log: bool = False) -> Span:
    """Returns a span that holds all `values`, with a margin; some span where there are none."""
    known = [value for value in values if math.isfinite(value) and (value > 0 or not log)] or [1.0]
    low, high = min(known), max(known)
    if log:
        margin = (high / low) ** MARGIN if low < high else 2.0
        return low / margin, high * margin
    margin = MARGIN * (high - low) or abs(high) / 20 or 0.05
    return low - margin, high + margin


def shared(spans: Sequence[Span]) -> list[Span]:
    """Returns the union in the place of each span, unless one would have less than a quarter of it for itself."""
    low, high = min(low for low, _ in spans), max(high for _, high in spans)
    if all(end - start >= LEAST_SHARE * (high - low) for start, end in spans):
        return [(low, high)] * len(spans)
    return list(spans)


def across(axis: Axis, top: float, bottom: float, title: str, paint: Paint) -> Markup:
    """Returns the horizontal `axis`: upright grid lines from `top` to `bottom`, numbers under them, and its title."""
    lines = [svg.line((axis.place(tick), top), (axis.place(tick), bottom), stroke=paint.grid) for tick in axis.ticks]
    numbers = [
        svg.text(axis.place(tick), bottom + 17, label, text_anchor="middle", fill=paint.faint)
        for tick, label in zip(axis.ticks, axis.labels, strict=True)
    ]
    middle = (axis.start + axis.end) / 2
    return Markup().join(
        [*lines, *numbers, svg.text(middle, bottom + 37, title, text_anchor="middle", fill=paint.faint)]
    )


def up(axis: Axis, left: float, right: float, title: str, paint: Paint) -> Markup:
    """Returns the upright `axis`: level grid lines from `left` to `right`, numbers beside them, its title above."""
    lines = [svg.line((left, axis.place(tick)), (right, axis.place(tick)), stroke=paint.grid) for tick in axis.ticks]
    numbers = [
        svg.text(left - 8, axis.place(tick) + 4, label, text_anchor="end", fill=paint.faint)
        for tick, label in zip(axis.ticks, axis.labels, strict=True)
    ]
    return Markup().join([*lines, *numbers, svg.text(0, 12, title, fill=paint.faint)])
