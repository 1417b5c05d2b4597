"""Plots of curves on a terminal, in dots of braille where it can show them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from finetune.figures.curves import (
    Curve,
    Span,
    check_any,
    labels_of,
    number,
    panels_of,
    scaled,
    thinned,
    x_span,
    y_span,
)

# Tones that show on black and on white alike.
_TONES = ("#3b8fd0", "#d9680d", "#1a9e77", "#c46aa5", "#c99700", "#8a7fd6", "#b5495b", "#808080")
_SIGNS, _ASCII_SIGNS = "●×○+◆△□*", "*xo+#%@&"
_MOST_TOGETHER = 4


def print_curves(
    curves: Sequence[Curve],
    console: Console,
    *,
    height: int = 12,
    title: str = "",
    x_title: str = "",
    y_title: str = "",
    log_x: bool = False,
) -> None:
    """Prints `curves` within the width of `console`, `height` lines high.

    Up to four labels share a plot, told apart by colour or, without colours, by signs. More are printed in panels of
    half the height, and so are curves of which any names its panel. Raises ValueError where there are no curves.
    """
    check_any(curves)
    labels = labels_of(curves)
    apart = len(labels) > _MOST_TOGETHER or any(curve.panel is not None for curve in curves)
    panels = panels_of(curves) if apart else {"": list(curves)}
    mixed = any(len(labels_of(held)) > 1 for held in panels.values())
    coloured = console.color_system is not None and not console.no_color
    plain = console.options.ascii_only
    braille = not plain and (coloured or not mixed)
    signs = "*" if plain else "●"
    if mixed:
        signs = _ASCII_SIGNS if plain else "━" if braille else _SIGNS
    look = _Look(
        across=x_span(curves, log_x=log_x),
        up=y_span(curves),
        log_x=log_x,
        tones={label: _TONES[place % len(_TONES)] if mixed else _TONES[0] for place, label in enumerate(labels)},
        signs={label: signs[place % len(signs)] for place, label in enumerate(labels)},
        braille=braille,
        lines="|+-" if plain else "│└─",
    )
    width = console.width
    lines = [Text(text, style) for text, style in ((title, "bold"), (y_title, "dim")) if text]
    if apart:
        lines += _terminal_panels(panels, look, width=width, height=max(4, height // 2))
    else:
        lines += _terminal_plot(curves, look, width=width, height=height)
    if x_title:
        lines.append(Text(x_title.center(width), "dim"))
    if mixed or not apart:
        lines += _terminal_legend(labels, look, width=width)
    for line in lines:
        line.rstrip()
        console.print(line, highlight=False, overflow="fold")


@dataclass(frozen=True)
class _Look:
    """What all plots in one print share: the axes, and how labels are told apart."""

    across: Span
    up: Span
    log_x: bool
    tones: Mapping[str, str]
    signs: Mapping[str, str]
    braille: bool
    lines: str  # upright, corner, level


def _terminal_plot(curves: Sequence[Curve], look: _Look, *, width: int, height: int) -> list[Text]:
    """Returns the lines of one plot, each `width` wide, of which the last two are the x axis and its numbers."""
    low, high = look.up
    dots = _DOTS[1] if look.braille else 1
    y_labels = {_row(value, look.up, height * dots) // dots: number(value) for value in (low, (low + high) / 2, high)}
    margin = max(map(len, y_labels.values()))
    columns = max(2, width - margin - 1)
    cells = _cells(curves, look, columns=columns, rows=height)
    lines = []
    for row in range(height):
        line = Text(f"{y_labels.get(row, ''):>{margin}}{look.lines[0]}")
        for column in range(columns):
            sign, tone = cells.get((row, column), (" ", ""))
            line.append(sign, tone)
        lines.append(line)
    lines.append(Text(" " * margin + look.lines[1] + look.lines[2] * columns))
    lines.append(Text(" " * (margin + 1) + _x_numbers(look, columns)))
    return lines


def _cells(curves: Sequence[Curve], look: _Look, *, columns: int, rows: int) -> dict[tuple[int, int], tuple[str, str]]:
    """Returns the sign in each cell that a line passes through, and its tone.

    Where several lines share a cell, they take turns from column to column, so that none hides another.
    """
    across, down = _DOTS if look.braille else (1, 1)
    dots: dict[tuple[int, int], int] = {}
    owners: dict[tuple[int, int], list[str]] = {}
    for curve in curves:
        for x, y in _dots(curve, look, columns=columns * across, rows=rows * down):
            cell = (y // down, x // across)
            dots[cell] = dots.get(cell, 0) | _BRAILLE[y % down][x % across]
            held = owners.setdefault(cell, [])
            if curve.label not in held:
                held.append(curve.label)
    signed = {}
    for cell, held in owners.items():
        label = held[cell[1] % len(held)]
        signed[cell] = (chr(0x2800 + dots[cell]) if look.braille else look.signs[label], look.tones[label])
    return signed


_DOTS = (2, 4)  # in a cell, across and down
_BRAILLE = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


def _dots(curve: Curve, look: _Look, *, columns: int, rows: int) -> Iterator[tuple[int, int]]:
    last: tuple[int, int] | None = None
    for step, value in thinned(curve, look.across, columns=columns, log_x=look.log_x):
        if value is None:
            last = None
            continue
        x, y = round(scaled(step, look.across, log_x=look.log_x) * (columns - 1)), _row(value, look.up, rows)
        from_x, from_y = last or (x, y)
        count = max(abs(x - from_x), abs(y - from_y), 1)
        for part in range(count + 1):
            yield round(from_x + (x - from_x) * part / count), round(from_y + (y - from_y) * part / count)
        last = x, y


def _row(value: float, up: Span, rows: int) -> int:
    return round((up[1] - value) / (up[1] - up[0]) * (rows - 1))


def _x_numbers(look: _Look, columns: int) -> str:
    low, high = look.across
    middle = math.sqrt(low * high) if look.log_x else (low + high) / 2
    if not look.log_x and low.is_integer() and high.is_integer():
        middle = math.floor(middle)  # there is no update 24.5
    left, centre, right = number(low), number(middle), number(high)
    if centre in (left, right) or len(left) + len(centre) + len(right) + 4 > columns:
        centre = ""
    line = f"{left}{right:>{max(0, columns - len(left))}}"
    start = round(scaled(middle, look.across, log_x=look.log_x) * (columns - 1)) - len(centre) // 2
    return (line[:start] + centre + line[start + len(centre) :])[:columns].ljust(columns)


def _terminal_panels(panels: Mapping[str, Sequence[Curve]], look: _Look, *, width: int, height: int) -> Iterator[Text]:
    gap = 2
    widest = max(30, *(cell_len(head) for head in panels))
    columns = min(len(panels), max(1, (width + gap) // (widest + gap)))
    each = (width - gap * (columns - 1)) // columns
    heads = list(panels)
    for first in range(0, len(heads), columns):
        if first:
            yield Text()
        row = heads[first : first + columns]
        # A head too long for its panel stands alone in its row, and the console folds it.
        yield Text((" " * gap).join(set_cell_size(head, max(each, cell_len(head))) for head in row).rstrip(), "bold")
        plots = [_terminal_plot(panels[head], look, width=each, height=height) for head in row]
        for parts in zip(*plots, strict=True):
            yield Text(" " * gap).join(parts)


def _terminal_legend(labels: Sequence[str], look: _Look, *, width: int) -> Iterator[Text]:
    line = Text()
    for label in labels:
        entry = Text.assemble((look.signs[label], look.tones[label]), " ", label)
        if line and line.cell_len + 3 + entry.cell_len > width:
            yield line
            line = Text()
        line = Text("   ").join([line, entry]) if line else entry
    yield line
