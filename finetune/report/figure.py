"""What every figure is: panels of one kind with words beside them, or a sentence where there is nothing to draw."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass

from markupsafe import Markup

from finetune.figures.palette import PIXELS_PER_BOLD_LETTER, PIXELS_PER_LETTER
from finetune.report import svg
from finetune.report.legend import Legend

GAP = 28
PADDING = 16
WIDE = 1024  # what the panels of a picture may take side by side, in pixels


@dataclass(frozen=True)
class Panel:
    """A drawing of `width` × `height` pixels. `head`: of which context; `alternative`: what it shows, in words."""

    head: str
    width: float
    height: float
    body: Markup
    alternative: str

    def drawn(self, **attributes: object) -> Markup:
        """Returns the whole drawing, as an image with its alternative."""
        label = f"{self.head}: {self.alternative}" if self.head else self.alternative
        return svg.drawing(self.width, self.height, self.body, role="img", aria_label=label, **attributes)


@dataclass(frozen=True)
class Figure:
    """`name`: of its file and its place in the page; `caption`: how to read it; `absent`: why there are no panels."""

    name: str
    title: str
    caption: str = ""
    panels: tuple[Panel, ...] = ()
    absent: str = ""


def picture(figure: Figure, legend: Legend) -> Markup:
    """Returns a figure that stands by itself: its title, its panels side by side, and a legend of the schedules."""
    inner = max(panel.width for panel in figure.panels)
    columns = max(1, min(len(figure.panels), int((WIDE + GAP) / (inner + GAP))))
    width = columns * inner + (columns - 1) * GAP
    paint = legend.paint
    parts = [svg.text(0, 14, figure.title, font_size=15, font_weight=600, fill=paint.ink)]
    bottom = 34.0
    for start in range(0, len(figure.panels), columns):
        row = figure.panels[start : start + columns]
        heads = [textwrap.wrap(panel.head, int(inner / PIXELS_PER_BOLD_LETTER)) for panel in row]
        below = bottom + 16 * max(map(len, heads))
        for place, (panel, head) in enumerate(zip(row, heads, strict=True)):
            left = place * (inner + GAP)
            parts += [
                svg.text(left, bottom + 12 + 16 * number, words, font_weight=600, fill=paint.ink)
                for number, words in enumerate(head)
            ]
            parts.append(svg.tag("g", panel.body, transform=f"translate({left:.0f} {below + 6:.0f})"))
        bottom = below + 6 + max(panel.height for panel in row) + GAP
    entries, height = _entries(legend, width)
    parts.append(svg.tag("g", entries, transform=f"translate(0 {bottom:.0f})"))
    ground = svg.tag("rect", width="100%", height="100%", rx=6, fill=paint.ground)
    inside = svg.tag("g", *parts, transform=f"translate({PADDING} {PADDING})")
    words = " ".join(panel.alternative for panel in figure.panels)
    return svg.drawing(
        width + 2 * PADDING,
        bottom + height + 2 * PADDING,
        svg.tag("title", figure.title),
        svg.tag("desc", f"{figure.caption} {words}"),
        ground,
        inside,
        role="img",
    )


def _entries(legend: Legend, width: float) -> tuple[Markup, float]:
    """Returns the legend, in columns as wide as its longest name, and its height."""
    letters = max(map(len, legend.names))
    columns = max(1, min(len(legend.names), int(width / (letters * PIXELS_PER_LETTER + 54))))
    rows = math.ceil(len(legend.names) / columns)
    parts = []
    for number, name in enumerate(legend.names):
        x, y = number // rows * width / columns, number % rows * 20 + 6
        parts += [legend.swatch(name, x, y), svg.text(x + 34, y + 4, name, fill=legend.paint.ink)]
    return Markup().join(parts), rows * 20
