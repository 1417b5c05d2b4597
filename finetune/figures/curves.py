"""Named curves, thinned to what a picture has room for.

Nothing here knows what a curve means. A value that is NaN or infinite leaves a gap in its line, and so does a step that
has no place on a logarithmic axis. A curve with more points than the picture has room for is thinned to the first, the
least, the greatest and the last value in each column of pixels, so that no peak is lost; a gap narrower than that is
closed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

Point = tuple[float, float | None]
Span = tuple[float, float]


@dataclass(frozen=True)
class Curve:
    """A line through `values`, one at each of `steps`, which rise.

    `panel` is the head of the panel it is drawn in where there are panels: its label, unless given. Curves of the same
    label share a colour. Raises ValueError where there are not as many values as steps.
    """

    label: str
    steps: Sequence[float]
    values: Sequence[float]
    panel: str | None = None

    def __post_init__(self) -> None:
        if len(self.steps) != len(self.values):
            raise ValueError(f"{self.label}: {len(self.steps)} steps, but {len(self.values)} values")


def check_any(curves: Sequence[Curve]) -> None:
    if not curves:
        raise ValueError("there are no curves to draw")


def labels_of(curves: Iterable[Curve]) -> list[str]:
    return list(dict.fromkeys(curve.label for curve in curves))


def panels_of(curves: Iterable[Curve]) -> dict[str, list[Curve]]:
    panels: dict[str, list[Curve]] = {}
    for curve in curves:
        panels.setdefault(curve.label if curve.panel is None else curve.panel, []).append(curve)
    return panels


def all_whole(curves: Iterable[Curve]) -> bool:
    return all(float(step).is_integer() for curve in curves for step in curve.steps)


def placeable(step: float, *, log_x: bool) -> bool:
    return math.isfinite(step) and (step > 0 or not log_x)


def x_span(curves: Sequence[Curve], *, log_x: bool, besides: Iterable[float] = ()) -> Span:
    steps = [step for curve in curves for step in curve.steps if placeable(step, log_x=log_x)]
    places = [*steps, *besides] or [1.0]
    low, high = float(min(places)), float(max(places))
    if log_x:
        low, high = float(f"{low:.9g}"), float(f"{high:.9g}")  # 1e-7 · 10^6 would end the axis just short of 0.1
    if low < high:
        return low, high
    return (low / 2, high * 2) if log_x else (low - 1, high + 1)


def y_span(curves: Sequence[Curve]) -> Span:
    values = [value for curve in curves for value in curve.values if math.isfinite(value)] or [0.0]
    low, high = float(min(values)), float(max(values))
    if 0 <= low <= high / 2 or (0 < low == high):  # zero is near enough to be shown
        return 0.0, high or 1.0
    return (low, high) if low < high else (low, 0.0)


def scaled(step: float, across: Span, *, log_x: bool) -> float:
    """Returns the place of `step` on the x axis, from 0 at its start to 1 at its end."""
    low, high = across
    if log_x:
        return math.log(step / low) / math.log(high / low)
    return (step - low) / (high - low)


def thinned(curve: Curve, across: Span, *, columns: int, log_x: bool) -> list[Point]:
    """Returns the points to draw on an axis of `columns` pixels, with None for the value where the line is broken."""
    points: list[Point] = [
        (float(step), float(value) if math.isfinite(value) else None)
        for step, value in zip(curve.steps, curve.values, strict=True)
        if placeable(step, log_x=log_x)
    ]
    if len(points) <= 4 * columns:
        return points if log_x else list(_with_upright_jumps(points))

    def column(point: Point) -> int:
        return min(columns - 1, int(columns * scaled(point[0], across, log_x=log_x)))

    return [point for _, group in groupby(points, column) for point in _first_least_greatest_last(list(group))]


def _first_least_greatest_last(group: list[Point]) -> Iterator[Point]:
    known = [(value, place) for place, (_, value) in enumerate(group) if value is not None]
    if not known:
        yield group[0]
        return
    for place in sorted({known[0][1], min(known)[1], max(known)[1], known[-1][1]}):
        yield group[place]


def _with_upright_jumps(points: list[Point]) -> Iterator[Point]:
    """Draws a jump from one update to the next upright: between them the old value still holds.

    A jump is a change ten times as great as those before and after it, in a curve long enough to tell.
    """
    values = [value for _, value in points]
    for place, (step, value) in enumerate(points):
        if len(points) >= 20 and 2 <= place < len(points) - 1 and step - points[place - 1][0] == 1:
            a, b, c, d = values[place - 2 : place + 2]
            if a is not None and b is not None and c is not None and d is not None:
                change = abs(c - b)
                if change > 0 and 10 * abs(b - a) <= change and 10 * abs(d - c) <= change:
                    yield step, b
        yield step, value


def number(value: float) -> str:
    if value == 0 or 1e-2 <= abs(value) < 1e6:
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"
