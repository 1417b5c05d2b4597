"""An analysis as it is laid out: what is told apart by colour, and what stands in a panel of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from finetune.evaluation.analysis import Analysis
from finetune.evaluation.direction import Direction
from finetune.evaluation.rows import Row
from finetune.evaluation.statistics import Interval
from finetune.figures.curves import Span
from finetune.report.axes import shared
from finetune.report.legend import Legend


@dataclass(frozen=True)
class View:
    """An analysis with the legend of its page."""

    analysis: Analysis
    legend: Legend

    @property
    def rows(self) -> tuple[Row, ...]:
        """All rows, best mean first."""
        return self.analysis.comparison.rows

    @property
    def judged(self) -> str:
        """What the rows are judged by, such as test accuracy."""
        return self.analysis.comparison.judged

    @property
    def direction(self) -> Direction:
        """That of what the rows are judged by."""
        return self.analysis.comparison.direction

    @property
    def form(self) -> str:
        """How scores and their differences are written, as a specification of `format`."""
        return self.analysis.comparison.form

    @cached_property
    def panels(self) -> dict[str, list[Row]]:
        """The rows of each context; all in one panel where there is but one schedule."""
        return self.analysis.comparison.contexts if tells_schedules(self.analysis) else {"": list(self.rows)}

    @cached_property
    def by_name(self) -> dict[str, Row]:
        """The rows by their names."""
        return {row.name: row for row in self.rows}

    def key(self, row: Row) -> str:
        """Returns the name of the row in the legend."""
        return key_of(row, self.analysis)

    def label(self, row: Row, among: Iterable[Row]) -> str:
        """Returns what tells the row from the others of its panel."""
        key = self.key(row)
        return key if sum(self.key(other) == key for other in among) == 1 else row.name

    def score(self, row: Row) -> Interval | None:
        """Returns the mean score with its interval; None where no run finished."""
        return self.analysis.measures[row.name]["score"].value

    def spans(self, span: Callable[[Sequence[Row]], Span]) -> list[Span]:
        """Returns the span of each panel's axis, the same in all where that leaves enough of each."""
        return shared([span(rows) for rows in self.panels.values()])


def tells_schedules(analysis: Analysis) -> bool:
    """Whether its rows differ in their schedules, rather than all having the same."""
    rows = analysis.comparison.rows
    return len(rows) == 1 or len({row.label for row in rows}) > 1


def key_of(row: Row, analysis: Analysis) -> str:
    """Returns the row's schedule, or the whole row's name where all rows have the same."""
    return row.label if tells_schedules(analysis) else row.name


def keys_of(analyses: Iterable[Analysis]) -> tuple[str, ...]:
    """Returns the names of all schedules, each once, those of the best rows first."""
    return tuple(dict.fromkeys(key_of(row, analysis) for analysis in analyses for row in analysis.comparison.rows))
