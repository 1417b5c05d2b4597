"""The validation score as the runs went on."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from finetune.evaluation.rows import Row
from finetune.report import svg
from finetune.report.axes import Axis, padded, shared
from finetune.report.figure import Figure
from finetune.report.plot import Plot, stroke
from finetune.report.view import View


@dataclass(frozen=True)
class Course:
    """What the finished runs of a row scored after `steps` updates, at which all of them were evaluated."""

    row: Row
    steps: tuple[int, ...]
    means: tuple[float, ...]
    least: tuple[float, ...]
    greatest: tuple[float, ...]


def draw_learning(view: View) -> Figure:
    """Returns the learning curves, in a panel per context."""
    metric = view.analysis.comparison.metric
    title = f"Learning: validation {metric}"
    panels = {
        head: courses
        for head, rows in view.panels.items()
        if (courses := [course for row in rows if (course := _course(row, metric)) is not None])
    }
    if not panels:
        return Figure("learning", title, absent="No finished run has its history, so there are no learning curves.")
    steps = shared([_padded_steps(courses) for courses in panels.values()])
    values = shared([padded([v for c in courses for v in (*c.least, *c.greatest)]) for courses in panels.values()])
    return Figure(
        "learning",
        title,
        "The mean over the finished seeds of a row at each evaluation; the band is from the least to the greatest.",
        tuple(
            Plot(head, x, y, "updates made", f"validation {metric}", _in_words(view, courses)).panel(
                view.legend, functools.partial(_draw, view, courses)
            )
            for (head, courses), x, y in zip(panels.items(), steps, values, strict=True)
        ),
    )


def _padded_steps(courses: Sequence[Course]) -> tuple[float, float]:
    return 0.0, padded([0.0, *(float(course.steps[-1]) for course in courses)])[1]


def _course(row: Row, metric: str) -> Course | None:
    curves = [
        {point.step: value for point in points if (value := point.values.get(metric)) is not None}
        for run in row.runs
        if run.record.results and (points := run.evaluations)
    ]
    steps = sorted(set.intersection(*(set(curve) for curve in curves))) if curves else []
    if not steps:
        return None
    columns = [[curve[step] for curve in curves] for step in steps]
    return Course(
        row,
        tuple(steps),
        tuple(map(statistics.fmean, columns)),
        tuple(map(min, columns)),
        tuple(map(max, columns)),
    )


def _draw(view: View, courses: Sequence[Course], x: Axis, y: Axis) -> Markup:
    return Markup().join(_drawn(view, course, x, y) for course in reversed(courses))


def _drawn(view: View, course: Course, x: Axis, y: Axis) -> Markup:
    key = view.key(course.row)
    places = [x.place(step) for step in course.steps]
    means, least, greatest = (
        list(zip(places, map(y.place, values), strict=True)) for values in (course.means, course.least, course.greatest)
    )
    colour = view.legend.colour(key)
    parts = [svg.area([*least, *reversed(greatest)], fill=colour, fill_opacity=0.1)] if len(places) > 1 else []
    parts.append(stroke(view.legend, key, [means]))
    if len(places) <= 12:
        parts += [svg.mark(view.legend.shape(key), *place, fill=colour) for place in means]
    return view.legend.group([key], *parts)


def _in_words(view: View, courses: Sequence[Course]) -> str:
    rows = [course.row for course in courses]
    each = (
        f"{view.label(course.row, rows)} {course.means[0]:{view.form}} after {course.steps[0]:,} updates, "
        f"{course.means[-1]:{view.form}} after {course.steps[-1]:,}"
        for course in courses
    )
    return f"Mean at the first and the last evaluation: {'; '.join(each)}."
