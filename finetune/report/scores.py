"""Every run as a mark, with the mean of its row and the interval of that mean."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from markupsafe import Markup

from finetune.evaluation.rows import Row
from finetune.evaluation.statistics import Interval
from finetune.figures.curves import Span
from finetune.figures.palette import PIXELS_PER_LETTER
from finetune.report import svg
from finetune.report.axes import Axis, across, padded
from finetune.report.figure import Figure, Panel
from finetune.report.view import View

ONE, SEVERAL = 760.0, 490.0
LETTERS = 34
TEXT, TEXT_OF_LOST = 66.0, 108.0
LINE = 15.0
PIXELS_PER_DIGIT = 8.0  # wider than letters are on average


def draw_scores(view: View) -> Figure:
    """Returns the scores of all runs, in a panel per context."""
    several = len(view.panels) > 1
    return Figure(
        "scores",
        f"Every run: {view.judged}",
        "A mark per run; the bar is the mean of a row with its 95% interval over seeds (Student's t), in figures on "
        f"the right. {'Panels share an axis unless that would crowd one of them. ' if several else ''}"
        "Runs that diverged have no score and are counted instead.",
        tuple(
            _panel(view, head, rows, span)
            for (head, rows), span in zip(view.panels.items(), view.spans(lambda rows: _span(view, rows)), strict=True)
        ),
    )


def _span(view: View, rows: Sequence[Row]) -> Span:
    comparison = view.analysis.comparison
    scores = [score for row in rows for score in row.scores(comparison.split)]
    low, high = padded(scores)
    bounds = [bound for row in rows if (interval := view.score(row)) for bound in (interval.low, interval.high)]
    # An interval of two seeds can be far wider than what it is of: it is cut off rather than all else squeezed.
    room = 0.75 * (high - low)
    return padded([*scores, *(min(max(bound, low - room), high + room) for bound in bounds)])


def _panel(view: View, head: str, rows: Sequence[Row], span: Span) -> Panel:
    width = SEVERAL if len(view.panels) > 1 else ONE
    labels = {row.name: textwrap.wrap(view.label(row, rows), LETTERS) for row in rows}
    letters = max(len(line) for lines in labels.values() for line in lines)
    gutter = 22 + letters * PIXELS_PER_LETTER + 10
    lost = any(row.diverged for row in view.rows)
    end = width - max(TEXT_OF_LOST if lost else TEXT, 12 + max(map(len, _means(view)), default=0) * PIXELS_PER_DIGIT)
    axis = Axis(*span, gutter, end, most=max(2, int((end - gutter) / 64)))
    parts, top = [], 8.0
    for row in rows:
        height = max(26.0, LINE * len(labels[row.name]) + 11, 38.0 if row.diverged else 0.0)
        parts.append(view.legend.group([view.key(row)], _row(view, row, labels[row.name], axis, top + height / 2)))
        top += height
    frame = across(axis, 2, top, view.judged, view.legend.paint)
    return Panel(head, width, top + 46, Markup().join([frame, *parts]), _in_words(view, rows))


def _means(view: View) -> list[str]:
    return [_mean_of(view, interval) for row in view.rows if (interval := view.score(row))]


def _mean_of(view: View, interval: Interval) -> str:
    return f"{interval.estimate:{view.form}}"


def _row(view: View, row: Row, label: Sequence[str], axis: Axis, middle: float) -> Markup:
    legend, key = view.legend, view.key(row)
    first = middle + 4 - LINE * (len(label) - 1) / 2
    words = [svg.text(22, first + LINE * number, line, fill=legend.paint.ink) for number, line in enumerate(label)]
    parts = [svg.mark(legend.shape(key), 8, middle, radius=4, fill=legend.colour(key)), *words]
    interval = view.score(row)
    if interval is not None:
        parts += _mean(view, row, axis, middle)
        aside = middle + 4 - (8 if row.diverged else 0)
        parts.append(svg.text(axis.end + 12, aside, _mean_of(view, interval), fill=legend.paint.ink))
    parts += _runs(view, row, axis, middle)
    if row.diverged:
        count = f"{row.diverged} of {len(row.records)}"
        warning = {"fill": legend.paint.warning, "font_size": 11}
        parts.append(svg.text(axis.end + 12, middle + 9, f"{count} diverged", **warning))
        if interval is None:
            parts.append(svg.text(axis.start + 8, middle + 4, "all runs diverged", **warning))
    return Markup().join(parts)


def _mean(view: View, row: Row, axis: Axis, middle: float) -> list[Markup]:
    interval = view.score(row)
    assert interval is not None  # noqa: S101 - the caller's condition
    ink = view.legend.paint.ink
    if math.isnan(interval.low):  # of one run, which is its own mean
        return []
    place = axis.place(interval.estimate)
    low, high = (axis.place(min(max(bound, axis.low), axis.high)) for bound in (interval.low, interval.high))
    return [
        svg.line((low, middle), (high, middle), stroke=ink, stroke_width=1.5),
        svg.line((place, middle - 8), (place, middle + 8), stroke=ink, stroke_width=2.5),
    ]


def _runs(view: View, row: Row, axis: Axis, middle: float) -> list[Markup]:
    """Returns a mark per finished run, moved up and down by turns so that equal scores can be told apart."""
    legend, key, comparison = view.legend, view.key(row), view.analysis.comparison
    scores = row.scores(comparison.split)
    return [
        svg.mark(
            legend.shape(key),
            axis.place(score),
            middle + (0.0 if len(scores) == 1 else (-5.0, 5.0, 0.0)[place % 3]),
            svg.tag("title", f"seed {record.identity.seed}: {score:{view.form}}"),
            fill=legend.colour(key),
            fill_opacity=0.8,
        )
        for place, (record, score) in enumerate(zip(row.finished, scores, strict=True))
    ]


def _in_words(view: View, rows: Sequence[Row]) -> str:
    return f"Mean {view.judged}: {'; '.join(_row_in_words(view, row, rows) for row in rows)}."


def _row_in_words(view: View, row: Row, rows: Sequence[Row]) -> str:
    interval = view.score(row)
    lost = f", {row.diverged} diverged" if row.diverged else ""
    found = "none" if interval is None else _mean_of(view, interval)
    return f"{view.label(row, rows)} {found} of {len(row.records)} runs{lost}"
