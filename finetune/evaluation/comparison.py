"""Runs side by side, from their records alone: a table per data set, a row per setting, seeds pooled."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from finetune.errors import RecordError, counted
from finetune.evaluation.cautions import cautions_of
from finetune.evaluation.direction import Direction
from finetune.evaluation.forms import PLAIN, form_of
from finetune.evaluation.record import RECORD, RunRecord
from finetune.evaluation.rows import Row, by_context, rows_of
from finetune.evaluation.runs import RecordedRun


@dataclass(frozen=True)
class Comparison:
    """Rows that may be compared: they share data, classes and metric. `split`: the one they are judged on.

    `name`: of the study or the recipes. `direction`: that of the metric. `tuning`: the runs that chose the peak rates.
    `cautions`: sentences on what the rows do not share, or can't show.
    """

    name: str
    split: str
    metric: str
    direction: Direction
    count: int
    rows: tuple[Row, ...]
    tuning: tuple[RecordedRun, ...]
    cautions: tuple[str, ...]

    @property
    def contexts(self) -> dict[str, list[Row]]:
        """The rows of each context, by its words, in their order."""
        return by_context(self.rows)

    @property
    def judged(self) -> str:
        """What the rows are judged by, such as test accuracy."""
        return f"{self.split} {self.metric}"

    @cached_property
    def form(self) -> str:
        """How scores and their differences are written: with the digits that the best mean takes."""
        means = (statistics.fmean(scores) for row in self.rows if (scores := row.scores(self.split)))
        return next(map(form_of, means), PLAIN)


def compare(runs: Iterable[RecordedRun]) -> list[Comparison]:
    """Returns a comparison per data set and metric among `runs`, rows in the order of their mean score, best first.

    Runs that chose the peak rates of a study are not compared. Raises RecordError where there are no others, and where
    runs contradict each other on whether more of the metric is better.
    """
    groups: dict[str, list[RecordedRun]] = {}
    tuning: dict[str, list[RecordedRun]] = {}
    for run in runs:
        is_tuning = run.record.study is not None and run.record.study.role == "tuning"
        (tuning if is_tuning else groups).setdefault(_judged_on(run.record, tuning=is_tuning), []).append(run)
    if tuning and not groups:
        raise RecordError("these runs only chose the peak rates of a study: run it to its end, then compare")
    comparisons = []
    for group in groups.values():
        first = group[0].record
        chosen_by = tuning.get(_judged_on(first, tuning=True), [])
        others = sum(len(each) for each in groups.values() if _shares_all_but_test(first, each[0].record))
        comparisons.append(_compare_group(group, chosen_by, others))
    return comparisons


def _judged_on(record: RunRecord, *, tuning: bool = False) -> str:
    splits = {split: identity.fingerprint for split, identity in record.identity.data.items()}
    if tuning:
        splits.pop("test", None)
    return json.dumps([splits, record.identity.classes, record.recipe["evaluation"]["select"]], sort_keys=True)


def _shares_all_but_test(one: RunRecord, other: RunRecord) -> bool:
    same = _judged_on(one, tuning=True) == _judged_on(other, tuning=True)
    return same and _judged_on(one) != _judged_on(other)


def _compare_group(runs: Sequence[RecordedRun], tuning: Sequence[RecordedRun], others: int) -> Comparison:
    first = runs[0].record
    split = "test" if "test" in first.identity.data else "validation"
    metric = str(first.recipe["evaluation"]["select"])
    direction = _direction([*runs, *tuning], metric)
    rows = sorted(rows_of(runs), key=lambda row: _rank(row, split, direction), reverse=True)
    cautions = [*cautions_of(rows, split, direction)]
    if others:
        cautions.insert(
            0,
            f"{counted(others, 'other run')} of the same training data have another test split, or none, and "
            "stand apart: scores on different examples can't be compared.",
        )
    names = {run.record.study.name if run.record.study else run.record.name for run in runs}
    return Comparison(
        name=", ".join(sorted(names)),
        split=split,
        metric=metric,
        direction=direction,
        count=first.identity.data[split].count,
        rows=tuple(rows),
        tuning=tuple(tuning),
        cautions=tuple(cautions),
    )


def _direction(runs: Sequence[RecordedRun], metric: str) -> Direction:
    said = {run.record.results.greater_is_better: run.path / RECORD for run in runs if run.record.results}
    if len(said) > 1:
        raise RecordError(
            f"{said[True]}: says that more {metric} is better, and {said[False]} that less is; one of them was altered "
            "or has another metric of that name, so run it again"
        )
    return Direction(next(iter(said), True))


def _rank(row: Row, split: str, direction: Direction) -> float:
    scores = row.scores(split)
    return direction.merit(statistics.fmean(scores)) if scores else float("-inf")
