"""The tables of a page as plain values, which its template lays out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from finetune.evaluation.across import AcrossContexts
from finetune.evaluation.analysis import Analyses, Finding
from finetune.evaluation.claims import MEASURES, Measured
from finetune.evaluation.comparison import Row
from finetune.evaluation.contrasts import Contrast
from finetune.evaluation.statistics import Interval
from finetune.report.forest import names_of, verdict
from finetune.report.legend import Legend
from finetune.report.view import View


@dataclass(frozen=True)
class Name:
    """A schedule or a row, with the number that it is picked by; None: it can't be."""

    words: str
    number: int | None


@dataclass(frozen=True)
class Cell:
    """`detail`: in small type below; `note`: a number among the table's notes, 0 for none."""

    words: str
    detail: str = ""
    note: int = 0


@dataclass(frozen=True)
class Line:
    """A line of a table, headed by its `names`: one, or the two of a difference."""

    names: tuple[Name, ...]
    cells: tuple[Cell, ...]

    @property
    def is_short(self) -> bool:
        """Whether the names have room on one line."""
        return sum(len(name.words) for name in self.names) < 32

    @property
    def keys(self) -> str:
        """The numbers of the schedules that it is about, as an attribute has them."""
        return " ".join(str(name.number) for name in self.names if name.number is not None)


@dataclass(frozen=True)
class Table:
    """`groups`: a heading, which may be empty, and its lines; `meanings`: of columns; `notes`: numbered from 1."""

    caption: str
    head: str
    columns: tuple[str, ...]
    groups: tuple[tuple[str, tuple[Line, ...]], ...]
    meanings: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    is_text: bool = False

    @property
    def count(self) -> int:
        """How many lines there are."""
        return sum(len(lines) for _, lines in self.groups)


class _Notes:
    def __init__(self) -> None:
        self.found: list[str] = []

    def number(self, note: str) -> int:
        if not note:
            return 0
        if note not in self.found:
            self.found.append(note)
        return self.found.index(note) + 1


def differences(view: View) -> Table:
    """Returns every contrast of the analysis."""
    columns = {
        "difference": "the mean over the seeds that both rows finished, from the same initial weights and batches",
        "95% interval": "Student's t, over seeds",
        "95%, examples too": "bootstrap interval over new seeds and new test examples at once",
        "seeds": "pairs of runs",
        "p": "exact sign-flip test",
        "p, adjusted": "by Holm, for all comparisons of the group",
        "p, equivalence": "two one-sided t tests against the declared region, adjusted likewise",
        "verdict": "at 5%",
        "seeds needed": "to find a difference of the size named with power 0.8, where undecided",
    }
    return Table(
        f"Differences in {view.judged}, the first less the second",
        "rows",
        tuple(columns),
        tuple(
            (finding.context, tuple(_difference(view, each, finding) for each in finding.contrasts))
            for finding in view.analysis.findings
        ),
        tuple(columns.items()),
    )


def _difference(view: View, contrast: Contrast, finding: Finding) -> Line:
    rows = [view.by_name[name] for name in (contrast.first, contrast.second)]
    words = names_of(view, contrast, finding)
    return Line(
        tuple(_name(view, row, label) for row, label in zip(rows, words, strict=True)),
        (
            Cell(_signed(contrast.differences_mean)),
            Cell(_bounds(contrast.interval)),
            Cell(_bounds(contrast.bootstrap)),
            Cell(str(len(contrast.seeds))),
            *(Cell(_probability(p)) for p in (contrast.p_value, contrast.adjusted, contrast.equivalence)),
            Cell(verdict(contrast)),
            _needed(contrast),
        ),
    )


def _name(view: View, row: Row, words: str) -> Name:
    return Name(words, view.legend.number(view.key(row)))


def _needed(contrast: Contrast) -> Cell:
    if contrast.effect is None:
        return Cell("–")
    return Cell(f"{contrast.seeds_needed:,}" if contrast.seeds_needed else "over 10,000", f"for {contrast.effect:.2g}")


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", "−")


def _bounds(interval: Interval | None) -> str:
    return "–" if interval is None else f"{_signed(interval.low)} to {_signed(interval.high)}"


def _probability(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if value >= 0.0005 else "<0.001"


def measures(view: View) -> Table:
    """Returns what was measured of every row; a measure that no row has is left out, and a note says why."""
    measured, notes = view.analysis.measures, _Notes()
    keys = [key for key in MEASURES if any(measured[row.name][key].value for row in view.rows)]
    titles = {key: f"{MEASURES[key].title}{f', {unit}' if (unit := MEASURES[key].unit) else ''}" for key in keys}
    groups = tuple(
        (
            head,
            tuple(
                Line(
                    (_name(view, row, view.label(row, rows)),),
                    (_runs(row), *(_measure(measured[row.name][key], key, len(row.finished), notes) for key in keys)),
                )
                for row in rows
            ),
        )
        for head, rows in view.panels.items()
    )
    meanings = [("runs", "how many were made, and how many of them diverged")]
    meanings += [(titles[key], f"{MEASURES[key].meaning}; {MEASURES[key].better} is better") for key in keys]
    missing = {
        key: sorted({measured[row.name][key].note for row in view.rows} - {""}) for key in MEASURES if key not in keys
    }
    meanings += [(MEASURES[key].title, f"not measured: {', '.join(why)}") for key, why in missing.items()]
    return Table(
        "What was measured: the mean over runs, with its 95% interval (Student's t)",
        "schedule",
        ("runs", *titles.values()),
        groups,
        tuple(meanings),
        tuple(notes.found),
    )


def _runs(row: Row) -> Cell:
    return Cell(str(len(row.records)), f"{row.diverged} diverged" if row.diverged else "")


def _measure(measured: Measured, key: str, finished: int, notes: _Notes) -> Cell:
    note = notes.number(measured.note)
    interval = measured.value
    if interval is None:
        return Cell("–", note=note)
    details = []
    if not math.isnan(interval.low) and interval.low != interval.high:
        details.append(f"[{_amount(interval.low, key)}, {_amount(interval.high, key)}]")
    if measured.runs != finished and key != "settings":
        details.append(f"n = {measured.runs}")
    return Cell(_amount(interval.estimate, key), ", ".join(details), note)


def _amount(value: float, key: str) -> str:
    return format(value, f",{MEASURES[key].form}").replace("-", "−")


def across_contexts(analyses: Analyses, legend: Legend) -> Table | None:
    """Returns the schedules over all contexts; None where there are too few contexts for that."""
    found = analyses.across
    if not found:
        return None
    parts = list(dict.fromkeys(part for each in found for part in each.spreads))
    meanings = [
        ("mean rank", "among the schedules by mean score, 1 the best, averaged over contexts"),
        ("interquartile mean", "of all scores of the schedule, a quarter cut off at each end (Agarwal et al. 2021)"),
        *((f"spread over {part}", "best less worst score over them, seed by seed; less is better") for part in parts),
    ]
    return Table(
        "The schedules over all contexts, with 95% intervals over seeds drawn anew",
        "schedule",
        ("contexts", "runs", *(title for title, _ in meanings)),
        (("", tuple(_across(each, parts, legend) for each in found)),),
        tuple(meanings),
    )


def _across(each: AcrossContexts, parts: Sequence[str], legend: Legend) -> Line:
    return Line(
        (Name(each.schedule, legend.number(each.schedule) if each.schedule in legend.names else None),),
        (
            Cell(str(each.contexts)),
            Cell(str(each.runs)),
            Cell(f"{each.mean_rank.estimate:.2f}", f"[{each.mean_rank.low:.2f}, {each.mean_rank.high:.2f}]"),
            *_in_figures([Measured(each.interquartile_mean, each.runs), *(each.spreads.get(part) for part in parts)]),
        ),
    )


def _in_figures(found: Iterable[Measured | None]) -> Iterator[Cell]:
    for each in found:
        yield Cell("–") if each is None else _measure(each, "score", each.runs, _Notes())
