"""Pictures of curves for files and pages, drawn with Altair."""

from __future__ import annotations

import io
import json
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.errors import FinetuneError, SettingError, did_you_mean
from finetune.figures.curves import (
    Curve,
    Span,
    all_whole,
    check_any,
    labels_of,
    number,
    panels_of,
    placeable,
    scaled,
    thinned,
    x_span,
    y_span,
)
from finetune.figures.palette import COLOURS, DASHES, FAINT, GRID, INK, PIXELS_PER_BOLD_LETTER, PIXELS_PER_LETTER
from finetune.whole_files import replacing

if TYPE_CHECKING:
    import altair

FORMATS = (".png", ".svg", ".html")

_WIDTH = 900  # of a whole picture, in pixels: the width of a README
_HEIGHT = 380  # of the plot in it, without titles and legend
_PADDING = 12


def draw(
    curves: Sequence[Curve],
    *,
    title: str,
    x_title: str,
    y_title: str,
    log_x: bool = False,
    marks: Mapping[str, float] | None = None,
) -> altair.LayerChart:
    """Returns one plot of all `curves`, 900 pixels wide, a colour and an entry in the legend per label.

    From the ninth label on, the colours come again with dashes. `marks` are upright rules, by their labels, at places
    on the x axis. Raises FinetuneError where Altair is not installed, ValueError where there are no curves.
    """
    alt = _altair()
    check_any(curves)
    marks = {name: place for name, place in (marks or {}).items() if placeable(place, log_x=log_x)}
    across, up = x_span(curves, log_x=log_x, besides=marks.values()), y_span(curves)
    labels = labels_of(curves)
    x = alt.X(
        "x:Q",
        title=x_title,
        scale=_x_scale(across, log_x=log_x),
        axis=_x_axis(across, log_x=log_x, whole=all_whole(curves), tickCount=8),
    )
    y = alt.Y("y:Q", title=y_title, scale=alt.Scale(domain=up, nice=True), axis=_y_axis(up, tickCount=6))
    picked = alt.selection_point(fields=["label"], bind="legend")  # in a page, a click in the legend
    lines = _lines(curves, across, columns=_WIDTH, log_x=log_x, stroke=2.2).encode(
        x=x,
        y=y,
        opacity=alt.condition(picked, alt.value(1), alt.value(0.15)),
        **_by_label(labels, legend=_legend(labels)),
    )
    rules = _rules(marks, x, across, log_x=log_x)
    chart = alt.layer(*rules, lines.add_params(picked)).properties(
        width=_WIDTH,
        height=_HEIGHT,
        title=alt.TitleParams(title, offset=16),
        autosize=alt.AutoSizeParams(type="fit-x", contains="padding"),
    )
    picture: altair.LayerChart = _styled(chart)
    return picture


def draw_panels(
    curves: Sequence[Curve],
    *,
    columns: int = 4,
    title: str = "",
    x_title: str = "",
    y_title: str = "",
    log_x: bool = False,
) -> altair.ConcatChart:
    """Returns small plots on the same axes, 900 pixels wide together, one per panel in the order of the curves.

    A legend is added where a panel holds several labels. Raises FinetuneError where Altair is not installed, ValueError
    where there are no curves.
    """
    alt = _altair()
    check_any(curves)
    panels = panels_of(curves)
    columns = min(columns, len(panels))
    across, up, labels, whole = x_span(curves, log_x=log_x), y_span(curves), labels_of(curves), all_whole(curves)
    mixed = any(len(labels_of(held)) > 1 for held in panels.values())
    # The plots are laid out by their frames alone, so what stands between them is reckoned here: it must not depend on
    # which panel has numbers.
    numbers = 4 + PIXELS_PER_LETTER * max(len(number(part * up[0] + (1 - part) * up[1])) for part in (0, 0.5, 1))
    gap = 20
    width = int((_WIDTH - 2 * _PADDING - 24 - numbers - gap * (columns - 1)) / columns)
    height = round(min(width * 0.56, 260))
    heads = {head: textwrap.wrap(head, int(width / PIXELS_PER_BOLD_LETTER)) or [""] for head in panels}
    row_gap = 22 + 15 * max(map(len, heads.values()))
    rows = math.ceil(len(panels) / columns)
    plots = []
    for place, (head, held) in enumerate(panels.items()):
        # The titles of the axes belong to the panels in the corners, moved to the middle of the whole.
        x_axis = _x_axis(
            across,
            log_x=log_x,
            whole=whole,
            labels=place + columns >= len(panels),
            tickCount=3,
            title=x_title if place == (rows - 1) * columns else "",
            titleX=(columns * width + (columns - 1) * gap) / 2,
        )
        y_axis = _y_axis(
            up,
            labels=place % columns == 0,
            tickCount=3,
            title=y_title if place == 0 else "",
            titleY=(rows * height + (rows - 1) * row_gap) / 2,
            minExtent=numbers,
        )
        lines = _lines(held, across, columns=width, log_x=log_x, stroke=1.9).encode(
            x=alt.X("x:Q", scale=_x_scale(across, log_x=log_x), axis=x_axis),
            y=alt.Y("y:Q", scale=alt.Scale(domain=up, nice=3), axis=y_axis),
            **(_by_label(labels, legend=_legend(labels)) if mixed else {"color": alt.value(COLOURS[0])}),
        )
        # The title of a plot would stand higher where the plot has numbers.
        heading = (
            alt.Chart(alt.InlineData(values=[{"head": heads[head]}]))
            .mark_text(align="left", baseline="bottom", color=INK, fontSize=12, fontWeight="bold")
            .encode(text="head:N", x=alt.value(0), y=alt.value(-8 - 15 * (len(heads[head]) - 1)))
        )
        plots.append(alt.layer(lines, heading).properties(width=width, height=height))
    spacing = alt.RowColnumber(row=row_gap, column=gap)
    chart = alt.concat(*plots, columns=columns, spacing=spacing, bounds="flush")
    if title:
        chart = chart.properties(title=alt.TitleParams(title, offset=22))
    picture: altair.ConcatChart = _styled(chart)
    return picture


def check_suffix(path: Path) -> None:
    """Raises SettingError for a path whose suffix is none of `FORMATS`."""
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        ending = f'the suffix "{path.suffix}"' if suffix else "no suffix"
        choices = f"{', '.join(FORMATS)}{did_you_mean(suffix, FORMATS)}"
        raise SettingError("output", f"{path} has {ending}, which is not one of {choices}")


def save(chart: altair.TopLevelMixin, path: Path) -> None:
    """Writes `chart` to `path`, whole or not at all, in the format of its suffix.

    .png has two pixels for each one of the chart's; .html is a page that holds all it needs and loads nothing. Raises
    SettingError for any other suffix and for a place that can't be written, FinetuneError where vl-convert is missing.
    """
    check_suffix(path)
    suffix = path.suffix.lower()
    content = _rendered(chart, suffix.removeprefix("."))
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise SettingError("output", f"{path} can't be written: {error.strerror or error}") from error


def _altair() -> Any:
    try:
        import altair
    except ImportError as error:
        raise _missing("altair", error) from error
    return altair


def _missing(library: str, error: ImportError) -> FinetuneError:
    return FinetuneError(f"a picture needs {library} ({error}): pip install 'finetune-schedules[plot]'")


def _rendered(chart: Any, kind: str) -> bytes:
    try:
        import vl_convert  # noqa: F401 - Altair would say only that saving failed
    except ImportError as error:
        raise _missing("vl-convert", error) from error
    if kind == "png":
        picture = io.BytesIO()
        chart.save(picture, format="png", scale_factor=2)
        return picture.getvalue()
    text = io.StringIO()
    menu = {"actions": {"export": True, "source": False, "compiled": False, "editor": False}}
    page = {"inline": True, "embed_options": menu, "json_kwds": {"cls": _ScriptEncoder}}
    chart.save(text, format=kind, **(page if kind == "html" else {}))
    return text.getvalue().encode()


class _ScriptEncoder(json.JSONEncoder):
    """JSON that can stand in a page's script: a label that holds `</script>` doesn't end it."""

    def encode(self, o: Any) -> str:
        return super().encode(o).replace("<", r"\u003c")


def _lines(curves: Sequence[Curve], across: Span, *, columns: int, log_x: bool, stroke: float) -> Any:
    alt = _altair()
    rows = [
        {"label": curve.label, "line": number, "x": x, "y": y}
        for number, curve in enumerate(curves)
        for x, y in thinned(curve, across, columns=columns, log_x=log_x)
    ]
    # Without an order of its own, Vega-Lite would sort by x, where an upright jump has two values.
    return (
        alt.Chart(alt.InlineData(values=rows))
        .mark_line(order=False, strokeWidth=stroke, strokeJoin="round", strokeCap="round")
        .encode(detail="line:N", tooltip="label:N")
    )


def _by_label(labels: list[str], *, legend: Any) -> dict[str, Any]:
    alt = _altair()
    colours = [COLOURS[place % len(COLOURS)] for place in range(len(labels))]
    channels = {"color": alt.Color("label:N", scale=alt.Scale(domain=labels, range=colours), legend=legend)}
    if len(labels) > len(COLOURS):
        dashes = [DASHES[place // len(COLOURS) % len(DASHES)] for place in range(len(labels))]
        channels["strokeDash"] = alt.StrokeDash("label:N", scale=alt.Scale(domain=labels, range=dashes), legend=legend)
    return channels


def _legend(labels: list[str]) -> Any:
    """Returns the legend, below the plot, in as many columns as there is width for."""
    entries = [len(label) * PIXELS_PER_LETTER + 52 for label in labels]
    columns = min(5, len(labels))
    while columns > 1 and sum(max(entries[column::columns]) for column in range(columns)) > _WIDTH - 80:
        columns -= 1
    return _altair().Legend(title=None, orient="bottom", columns=columns)


def _x_scale(across: Span, *, log_x: bool) -> Any:
    return _altair().Scale(domain=across, nice=False, type="log" if log_x else "linear")


def _x_axis(across: Span, *, log_x: bool, whole: bool, **settings: Any) -> Any:
    alt = _altair()
    if log_x:
        powers = range(math.floor(math.log10(across[0])), math.ceil(math.log10(across[1])) + 1)
        digits = (1,) if math.log10(across[1] / across[0]) > 2 else (1, 2, 5)
        ticks = [float(f"{digit}e{power}") for power in powers for digit in digits]
        settings |= {"values": [tick for tick in ticks if across[0] <= tick <= across[1]], "labelExpr": _NUMBER}
    elif whole:
        settings |= {"format": ",d", "tickMinStep": 1}
    return alt.Axis(**settings)


_NUMBER = "datum.value != 0 && abs(datum.value) < 0.1 ? format(datum.value, '~e') : format(datum.value, ',~g')"


def _y_axis(up: Span, **settings: Any) -> Any:
    small = max(map(abs, up)) < 0.01
    return _altair().Axis(**({"labelExpr": _NUMBER} if small else {"format": ",~g"}), **settings)


def _rules(marks: Mapping[str, float], x: Any, across: Span, *, log_x: bool) -> list[Any]:
    """Returns the layers of the rules, each with its label beside its upper end as a flag, above the plot.

    From right to left, each label has the lowest row in which it meets no other, so that a rule passes no label by.
    """
    alt = _altair()
    begins: list[float] = []  # of the last label in each row, in pixels
    layers: list[Any] = []
    for label, place in sorted(marks.items(), key=lambda mark: -mark[1]):
        at, length = scaled(place, across, log_x=log_x) * (_WIDTH - 70), len(label) * PIXELS_PER_LETTER + 4
        leftwards = at + length > _WIDTH - 70
        begin, end = (at - length, at) if leftwards else (at, at + length)
        row = next((row for row, taken in enumerate(begins) if end + 8 < taken), len(begins))
        begins[row : row + 1] = [begin]
        base = alt.Chart(alt.InlineData(values=[{"x": place, "text": label}])).encode(x=x)
        top = -19 - 16 * row
        rule = base.mark_rule(color=FAINT, strokeDash=[4, 3], strokeWidth=1.2)
        layers.append(rule.encode(y=alt.value(top), y2=alt.value(_HEIGHT)))
        align, aside = ("right", -5) if leftwards else ("left", 5)
        text = base.mark_text(align=align, dx=aside, baseline="top", color=INK, fontSize=12)
        layers.append(text.encode(text="text:N", y=alt.value(top + 1)))
    return layers


def _styled(chart: Any) -> Any:
    # No font but the generic one: vl-convert leaves out, in silence, a text whose font it hasn't.
    return (
        chart.configure(background="white", padding=_PADDING, font="sans-serif")
        .configure_view(stroke=None)
        .configure_title(anchor="start", frame="group", fontSize=16, fontWeight="bold", color=INK)
        .configure_axis(
            domainColor="#999999",
            gridColor=GRID,
            labelColor="#444444",
            labelFontSize=12,
            labelPadding=6,
            ticks=False,
            titleColor=FAINT,
            titleFontSize=12,
            titleFontWeight="normal",
            titlePadding=10,
        )
        .configure_axisY(domain=False)
        .configure_legend(
            columnPadding=22,
            labelColor=INK,
            labelFontSize=12,
            labelLimit=0,
            offset=14,
            rowPadding=5,
            symbolSize=420,
            symbolStrokeWidth=2.6,
            symbolType="stroke",
        )
    )
