"""Panels with a horizontal and an upright axis, and curves in them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from finetune.figures.curves import Curve, Point, Span, thinned
from finetune.report import svg
from finetune.report.axes import Axis, across, up
from finetune.report.figure import Panel
from finetune.report.legend import Legend

WIDTH, HEIGHT = 480.0, 280.0
LEFT, RIGHT, TOP, BOTTOM = 58.0, 12.0, 26.0, 46.0
COLUMNS = 120
CLOSE = 0.15


@dataclass(frozen=True)
class Plot:
    """An empty panel: the span and the title of each axis. `x_ticks`: where they are best, if there is room."""

    head: str
    x: Span
    y: Span
    x_title: str
    y_title: str
    alternative: str
    log_x: bool = False
    x_ticks: tuple[float, ...] = ()

    def panel(self, legend: Legend, draw: Callable[[Axis, Axis], Markup]) -> Panel:
        """Returns the panel with what `draw` draws."""
        right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
        x = Axis(*self.x, LEFT, right, log=self.log_x, most=7, wanted=self.x_ticks)
        y = Axis(*self.y, bottom, TOP, most=5)
        body = Markup().join(
            [
                up(y, LEFT, right, self.y_title, legend.paint),
                across(x, TOP, bottom, self.x_title, legend.paint),
                draw(x, y),
            ]
        )
        return Panel(self.head, WIDTH, HEIGHT, body, self.alternative)


def stroke(legend: Legend, key: str, pieces: Sequence[Sequence[svg.Place]]) -> Markup:
    """Returns the curve of a schedule, in its colour and dashes, and unseen around it where a click still meets it."""
    whole = [simplified(piece) for piece in pieces]
    hit = svg.curve(whole, stroke=legend.paint.ground, stroke_opacity=0, stroke_width=11)
    seen = svg.curve(whole, stroke=legend.colour(key), stroke_width=2, stroke_dasharray=legend.dashes(key))
    return hit + seen


def pieces_of(curve: Curve, x: Axis, y: Axis) -> list[list[svg.Place]]:
    """Returns the places that a long curve is drawn through, broken where a value is not finite."""
    points = thinned(curve, (x.low, x.high), columns=COLUMNS, log_x=x.log)
    return [[(x.place(at), y.place(value)) for at, value in piece] for piece in _unbroken(points)]


def _unbroken(points: Sequence[Point]) -> Iterator[list[tuple[float, float]]]:
    piece: list[tuple[float, float]] = []
    for at, value in points:
        if value is not None:
            piece.append((at, value))
        elif piece:
            yield piece
            piece = []
    if piece:
        yield piece


def simplified(places: Sequence[svg.Place]) -> list[svg.Place]:
    """Returns as few of `places` as leave the line through them where it was, to a sixth of a pixel.

    Those farthest from the line between two kept ones are kept (Douglas and Peucker 1973).
    """
    kept, open_spans = {0, len(places) - 1}, [(0, len(places) - 1)]
    while open_spans:
        first, last = open_spans.pop()
        if last - first < 2:
            continue
        farthest = max(range(first + 1, last), key=lambda each: _aside(places[each], places[first], places[last]))
        if _aside(places[farthest], places[first], places[last]) > CLOSE:
            kept.add(farthest)
            open_spans += [(first, farthest), (farthest, last)]
    return [places[each] for each in sorted(kept)]


def _aside(place: svg.Place, start: svg.Place, end: svg.Place) -> float:
    along = (end[0] - start[0], end[1] - start[1])
    length = math.hypot(*along)
    offset = (place[0] - start[0], place[1] - start[1])
    if length == 0:
        return math.hypot(*offset)
    return abs(along[0] * offset[1] - along[1] * offset[0]) / length
