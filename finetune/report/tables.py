"""The tables of a page as plain values, which its template lays out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from finetune.evaluation.across import AcrossContexts
from finetune.evaluation.analysis import Analyses, Finding
from finetune.evaluation.claims import Measure, Measured, measures_of
from finetune.evaluation.contrasts import Contrast
from finetune.evaluation.rows import Row
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
    mean = "the mean over the seeds that both rows finished, from the same initial weights and batches"
    columns = {
        "difference": mean if view.direction.greater_is_better else f"{mean}; below 0, the first is better",
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
            Cell(_signed(contrast.differences_mean, view.form)),
            Cell(_bounds(contrast.interval, view.form)),
            Cell(_bounds(contrast.bootstrap, view.form)),
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


def _signed(value: float, form: str) -> str:
    return f"{value:+{form}}".replace("-", "−")


def _bounds(interval: Interval | None, form: str) -> str:
    return "–" if interval is None else f"{_signed(interval.low, form)} to {_signed(interval.high, form)}"


def _probability(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if value >= 0.0005 else "<0.001"


def measures(view: View) -> Table:
    """Returns what was measured of every row; a measure that no row has is left out, and a note says why."""
    measured, notes, columns = view.analysis.measures, _Notes(), measures_of(view.analysis.comparison)
    keys = [key for key in columns if any(measured[row.name][key].value for row in view.rows)]
    titles = {key: f"{columns[key].title}{f', {unit}' if (unit := columns[key].unit) else ''}" for key in keys}
    groups = tuple(
        (
            head,
            tuple(
                Line(
                    (_name(view, row, view.label(row, rows)),),
                    (_runs(row), *(_measure(measured[row.name][key], columns[key], row, notes) for key in keys)),
                )
                for row in rows
            ),
        )
        for head, rows in view.panels.items()
    )
    meanings = [("runs", "how many were made, and how many of them diverged")]
    meanings += [(titles[key], f"{columns[key].meaning}; {columns[key].better} is better") for key in keys]
    missing = {
        key: sorted({measured[row.name][key].note for row in view.rows} - {""}) for key in columns if key not in keys
    }
    meanings += [(columns[key].title, f"not measured: {', '.join(why)}") for key, why in missing.items()]
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


def _measure(measured: Measured, measure: Measure, row: Row, notes: _Notes) -> Cell:
    cell = _in_figures(measured, measure.form, among=1 if measure.title == "settings" else len(row.finished))
    return replace(cell, note=notes.number(measured.note))


def _in_figures(measured: Measured, form: str, *, among: int) -> Cell:
    """Returns a mean with its interval, and of how many it is where that isn't `among`."""
    interval = measured.value
    if interval is None:
        return Cell("–")
    details = []
    if not math.isnan(interval.low) and interval.low != interval.high:
        details.append(f"[{_amount(interval.low, form)}, {_amount(interval.high, form)}]")
    if measured.runs != among:
        details.append(f"n = {measured.runs}")
    return Cell(_amount(interval.estimate, form), ", ".join(details))


def _amount(value: float, form: str) -> str:
    return format(value, f",{form}").replace("-", "−")


def across_contexts(analyses: Analyses, legend: Legend) -> Table | None:
    """Returns the schedules over all contexts; None where there are too few contexts for that."""
    found = analyses.across
    if not found:
        return None
    parts = list(dict.fromkeys(part for each in found for part in each.spreads))
    meanings = [
        ("mean rank", "among the schedules by mean score, 1 the best, averaged over contexts"),
        ("interquartile mean", "of all scores of the schedule, a quarter cut off at each end (Agarwal et al. 2021)"),
        *(
            (f"spread over {part}", f"{found[0].direction.spread} score over them, seed by seed; less is better")
            for part in parts
        ),
    ]
    return Table(
        "The schedules over all contexts, with 95% intervals over seeds drawn anew",
        "schedule",
        ("contexts", "runs", *(title for title, _ in meanings)),
        (("", tuple(_across(each, parts, legend, found[0].form) for each in found)),),
        tuple(meanings),
    )


def _across(each: AcrossContexts, parts: Sequence[str], legend: Legend, form: str) -> Line:
    return Line(
        (Name(each.schedule, legend.number(each.schedule) if each.schedule in legend.names else None),),
        (
            Cell(str(each.contexts)),
            Cell(str(each.runs)),
            Cell(f"{each.mean_rank.estimate:.2f}", f"[{each.mean_rank.low:.2f}, {each.mean_rank.high:.2f}]"),
            _in_figures(Measured(each.interquartile_mean, each.runs), form, among=each.runs),
            *(_spread(each.spreads.get(part), form) for part in parts),
        ),
    )


def _spread(spread: Measured | None, form: str) -> Cell:
    return Cell("–") if spread is None else _in_figures(spread, form, among=spread.runs)
