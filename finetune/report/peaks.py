"""The best validation score against the peak rate, where several were tried."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Sequence

from markupsafe import Markup

from finetune.evaluation.claims import PEAK, PeakPoint
from finetune.evaluation.rows import in_words
from finetune.figures.curves import number
from finetune.report import svg
from finetune.report.axes import Axis, padded, shared
from finetune.report.figure import Figure
from finetune.report.plot import Plot, stroke
from finetune.report.view import View

Tried = dict[str, list[PeakPoint]]


def draw_peaks(view: View) -> Figure:
    """Returns what was tried, in a panel per context."""
    metric = view.analysis.comparison.metric
    title = f"Peak rates: validation {metric}"
    panels = {head: tried for head, tried in _panels(view).items() if any(_peaks(each) > 1 for each in tried.values())}
    if not panels:
        return Figure("peaks", title, absent="Each row was run at one peak rate, so its choice can't be judged here.")
    points = {head: [point for each in tried.values() for point in each] for head, tried in panels.items()}
    rates = shared([padded([point.peak for point in each], log=True) for each in points.values()])
    scores = shared([padded([point.score for point in each if point.score is not None]) for each in points.values()])
    lost = sum(point.score is None for each in points.values() for point in each)
    ring = "; the ring is around the peak that was chosen for the runs compared above" if _is_tuned(view) else ""
    diverged = f" {lost} run{'s' * (lost > 1)} diverged and can't be drawn." if lost else ""
    rows = [each for tried in panels.values() for each in tried.values()]
    left_out = any(point.of > _peaks(each) for each in rows for point in each)
    halved = " Successive halving left the other peak rates out, after shorter runs." if left_out else ""
    return Figure(
        "peaks",
        title,
        f"The best validation score of each run by its peak rate, and the line through their means{ring}."
        f"{halved}{diverged}",
        tuple(
            Plot(
                head,
                x,
                y,
                "peak learning rate",
                f"validation {metric}",
                _in_words(view, tried),
                log_x=True,
                x_ticks=tuple(sorted({point.peak for point in points[head]})),
            ).panel(view.legend, functools.partial(_draw, view, tried))
            for (head, tried), x, y in zip(panels.items(), rates, scores, strict=True)
        ),
    )


def _is_tuned(view: View) -> bool:
    return bool(view.analysis.comparison.tuning)


def _panels(view: View) -> dict[str, Tried]:
    """Returns what was tried by context and row; of rows that differ in the peak alone, the first stands for all."""
    panels: dict[str, Tried] = {}
    seen = set()
    for row in view.rows:
        head = in_words({key: value for key, value in row.telling.items() if key != PEAK})
        if (head, row.label) not in seen:
            seen.add((head, row.label))
            panels.setdefault(head, {})[row.name] = view.analysis.tried.get(row.name, [])
    return panels


def _peaks(points: Sequence[PeakPoint]) -> int:
    return len({point.peak for point in points})


def _means(points: Sequence[PeakPoint]) -> dict[float, float]:
    scores: dict[float, list[float]] = {}
    for point in points:
        if point.score is not None:
            scores.setdefault(point.peak, []).append(point.score)
    return {peak: statistics.fmean(values) for peak, values in sorted(scores.items())}


def _draw(view: View, tried: Tried, x: Axis, y: Axis) -> Markup:
    return Markup().join(_drawn(view, name, tried[name], x, y) for name in reversed(tried) if _means(tried[name]))


def _drawn(view: View, name: str, points: Sequence[PeakPoint], x: Axis, y: Axis) -> Markup:
    key = view.key(view.by_name[name])
    colour = view.legend.colour(key)
    means = _means(points)
    places = {peak: (x.place(peak), y.place(mean)) for peak, mean in means.items()}
    marks = [
        svg.mark(view.legend.shape(key), x.place(point.peak), y.place(point.score), fill=colour, fill_opacity=0.8)
        for point in points
        if point.score is not None
    ]
    chosen = {point.peak for point in points if point.chosen} & set(places) if _is_tuned(view) else set()
    rings = [
        svg.mark(0, *places[peak], radius=7.0, fill="none", stroke=colour, stroke_width=1.8) for peak in sorted(chosen)
    ]
    return view.legend.group([key], stroke(view.legend, key, [list(places.values())]), *marks, *rings)


def _in_words(view: View, tried: Tried) -> str:
    rows = [view.by_name[name] for name in tried]
    each = (
        f"{view.label(row, rows)} " + ", ".join(f"{mean:{view.form}} at {number(peak)}" for peak, mean in means.items())
        for row in rows
        if (means := _means(tried[row.name]))
    )
    return f"Mean score at each peak rate: {'; '.join(each)}."
