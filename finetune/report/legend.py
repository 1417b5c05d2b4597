"""How schedules are told apart in every figure: a colour, dashes and a shape each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from finetune.figures.palette import COLOURS, DASHES, FAINT, GRID, INK
from finetune.report import svg


@dataclass(frozen=True)
class Paint:
    """The colours of a figure. `ground`: what it lies on; `shade`: of a region; `warning`: of what went wrong."""

    ink: str
    faint: str
    grid: str
    ground: str
    shade: str
    warning: str
    colours: tuple[str, ...]


PRINT = Paint(INK, FAINT, GRID, "#ffffff", "#e9eef3", "#a02c00", COLOURS)
"""For a file by itself, which is read on white."""

PAGE = Paint(
    ink="var(--ink)",
    faint="var(--faint)",
    grid="var(--grid)",
    ground="var(--ground)",
    shade="var(--shade)",
    warning="var(--warning)",
    colours=tuple(f"var(--c{number})" for number in range(len(COLOURS))),
)
"""For a page, whose style says what they are, in the light and in the dark."""


@dataclass(frozen=True)
class Legend:
    """The schedules of a page by their names, in the order of their numbers."""

    names: tuple[str, ...]
    paint: Paint

    def number(self, name: str) -> int:
        """Returns the number that the schedule is picked by."""
        return self.names.index(name)

    def colour(self, name: str) -> str:
        """Returns its colour; from the ninth schedule on, they come again with other dashes and shapes."""
        return self.paint.colours[self.number(name) % len(self.paint.colours)]

    def dashes(self, name: str) -> str | None:
        """Returns its dashes; none where the colour alone tells it."""
        dashes = DASHES[self.number(name) // len(COLOURS) % len(DASHES)]
        return " ".join(map(str, dashes)) if dashes[1] else None

    def shape(self, name: str) -> int:
        """Returns the number of the shape of its marks."""
        number = self.number(name)
        return number + number // len(COLOURS)

    def swatch(self, name: str, x: float = 0, y: float = 8) -> Markup:
        """Returns a stroke with a mark on it, 26 pixels long, from (x, y)."""
        colour = self.colour(name)
        return svg.line(
            (x, y), (x + 26, y), stroke=colour, stroke_width=2, stroke_dasharray=self.dashes(name)
        ) + svg.mark(self.shape(name), x + 13, y, fill=colour)

    def group(self, names: Sequence[str], *children: Markup) -> Markup:
        """Returns what is drawn of one schedule, or of several: a click picks the first, and each keeps it in sight."""
        numbers = [str(self.number(name)) for name in names]
        return svg.tag("g", *children, data_keys=" ".join(numbers), data_pick=numbers[0])
