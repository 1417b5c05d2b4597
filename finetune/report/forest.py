"""The differences between rows with their intervals, against zero and the region of equivalence."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from markupsafe import Markup

from finetune.evaluation.analysis import Finding
from finetune.evaluation.contrasts import Contrast
from finetune.figures.curves import Span
from finetune.figures.palette import PIXELS_PER_LETTER
from finetune.report import svg
from finetune.report.axes import Axis, across, padded, shared
from finetune.report.figure import Figure, Panel
from finetune.report.view import View

WIDTH = 900.0
LETTERS = 44
TEXT = 190.0
LINE = 15.0
MOST = 45


def draw_differences(view: View) -> Figure:
    """Returns the contrasts of each finding, and of those that are too many, those of the best row alone."""
    findings = view.analysis.findings
    title = f"Differences in {view.judged}, paired by seed"
    if not findings:
        return Figure("differences", title, absent="No two rows may be set against each other, so there are none.")
    region = view.analysis.question.equivalence
    shade = f"The shaded region, ±{region:g}, is of differences too small to matter. " if region else ""
    less = "" if view.direction.greater_is_better else "Less is better: left of 0, the first is. "
    few = (
        f"Of more than {MOST} differences, those of the row with the best mean are drawn; the table has all. "
        if any(len(finding.contrasts) > MOST for finding in findings)
        else ""
    )
    spans = shared([_span(view, finding) for finding in findings])
    return Figure(
        "differences",
        title,
        "The mean difference, the first less the second, with its 95% interval over seeds; the small marks are the "
        f"differences of single seeds. {less}{shade}{few}Verdicts are of the exact test, adjusted for all comparisons "
        "of a panel.",
        tuple(_panel(view, finding, span) for finding, span in zip(findings, spans, strict=True)),
    )


def _drawn(finding: Finding) -> Sequence[Contrast]:
    if len(finding.contrasts) <= MOST:
        return finding.contrasts
    return [each for each in finding.contrasts if finding.names[0] in (each.first, each.second)]


def _span(view: View, finding: Finding) -> Span:
    region = view.analysis.question.equivalence or 0.0
    drawn = _drawn(finding)
    differences = [0.0, -region, region, *(value for each in drawn for value in each.differences)]
    low, high = padded(differences)
    room = 0.5 * (high - low)
    bounds = [bound for each in drawn if each.interval for bound in (each.interval.low, each.interval.high)]
    return padded([*differences, *(min(max(bound, low - room), high + room) for bound in bounds)])


def _panel(view: View, finding: Finding, span: Span) -> Panel:
    drawn = _drawn(finding)
    labels = [textwrap.wrap(label_of(view, contrast, finding), LETTERS) for contrast in drawn]
    gutter = max(len(line) for lines in labels for line in lines) * PIXELS_PER_LETTER + 14
    axis = Axis(*span, gutter, WIDTH - TEXT, most=7)
    parts, top = [], 6.0
    for contrast, label in zip(drawn, labels, strict=True):
        height = max(28.0, LINE * len(label) + 11)
        keys = [view.key(view.by_name[name]) for name in (contrast.first, contrast.second)]
        parts.append(view.legend.group(keys, _contrast(view, contrast, label, axis, top + height / 2)))
        top += height
    paint = view.legend.paint
    ground = [_region(view, axis, top)] if view.analysis.question.equivalence else []
    zero = svg.line((axis.place(0), 0), (axis.place(0), top), stroke=paint.ink, stroke_width=1.2)
    frame = across(axis, 0, top, f"difference in {view.judged}", paint)
    body = Markup().join([*ground, frame, zero, *parts])
    return Panel(finding.context, WIDTH, top + 46, body, _in_words(view, finding, drawn))


def _region(view: View, axis: Axis, height: float) -> Markup:
    region = view.analysis.question.equivalence or 0.0
    left, right = axis.place(-region), axis.place(region)
    return svg.tag("rect", x=left, y=0, width=right - left, height=height, fill=view.legend.paint.shade)


def _contrast(view: View, contrast: Contrast, label: Sequence[str], axis: Axis, middle: float) -> Markup:
    legend, key = view.legend, view.key(view.by_name[contrast.first])
    colour, ink = legend.colour(key), legend.paint.ink
    first = middle + 4 - LINE * (len(label) - 1) / 2
    parts = [svg.text(0, first + LINE * number, line, fill=ink) for number, line in enumerate(label)]
    if contrast.interval is not None:
        low, high = (
            axis.place(min(max(bound, axis.low), axis.high))
            for bound in (contrast.interval.low, contrast.interval.high)
        )
        parts.append(svg.line((low, middle), (high, middle), stroke=colour, stroke_width=2.2))
    parts += [
        svg.mark(0, axis.place(difference), middle + 8, radius=1.6, fill=colour, fill_opacity=0.75)
        for difference in contrast.differences
        if contrast.interval is not None
    ]
    estimate = contrast.differences_mean
    mean = svg.tag("title", f"{estimate:+{view.form}}")
    parts.append(svg.mark(legend.shape(key), axis.place(estimate), middle, mean, radius=4.2, fill=colour))
    weight = 600 if contrast.is_shown or contrast.is_equivalent else None
    parts.append(svg.text(axis.end + 14, middle + 4, verdict(contrast), fill=ink, font_weight=weight))
    return Markup().join(parts)


def verdict(contrast: Contrast) -> str:
    """Returns what is shown, with how many seeds there are where they are too few."""
    if contrast.p_value is None:
        return f"too few seeds ({len(contrast.seeds)})"
    return contrast.verdict


def label_of(view: View, contrast: Contrast, finding: Finding) -> str:
    """Returns the two rows of a contrast, as briefly as tells them from the others of the finding."""
    first, second = names_of(view, contrast, finding)
    return f"{first} − {second}"


def names_of(view: View, contrast: Contrast, finding: Finding) -> tuple[str, str]:
    """Returns the first row's name and the second's, as briefly as tells them from the others of the finding."""
    rows = [view.by_name[name] for name in finding.names]
    first, second = (view.label(view.by_name[name], rows) for name in (contrast.first, contrast.second))
    return first, second


def _in_words(view: View, finding: Finding, drawn: Sequence[Contrast]) -> str:
    each = (
        f"{label_of(view, contrast, finding)} {contrast.differences_mean:+{view.form}}, {verdict(contrast)}"
        for contrast in drawn
    )
    return f"Mean differences: {'; '.join(each)}."
