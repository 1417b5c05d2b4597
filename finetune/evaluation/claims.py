"""What is measured of a setting besides its score: how soon it learns, how it bears other peaks, what it costs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

from finetune.evaluation.comparison import Comparison
from finetune.evaluation.direction import Direction
from finetune.evaluation.forms import PLAIN
from finetune.evaluation.record import RunRecord
from finetune.evaluation.rows import Row, best_score
from finetune.evaluation.runs import EvaluationPoint, RecordedRun
from finetune.evaluation.statistics import Interval, mean_interval

NEAR = 0.95


@dataclass(frozen=True)
class Measure:
    """A column of the measured claims; `meaning` says how it was measured, `form` how a number is written."""

    title: str
    unit: str
    better: Literal["more", "less"]
    form: str
    meaning: str


@dataclass(frozen=True)
class Measured:
    """The mean over `runs` runs, or pairs or seeds of them, with a t interval, its bounds NaN for one run.

    None where it wasn't measured; `note`: why, or how to read it.
    """

    value: Interval | None
    runs: int
    note: str = ""


MEASURES: dict[str, Measure] = {
    "score": Measure(
        "score", "", "more", PLAIN, "the metric of the kept model on the split that the rows are judged on"
    ),
    "updates_to_target": Measure(
        "updates to target",
        "",
        "less",
        ".0f",
        "up to the first evaluation whose validation score is at least the declared target",
    ),
    "seconds_to_target": Measure("time to target", "s", "less", ".1f", "seconds of training up to that evaluation"),
    "updates_to_95": Measure(
        "updates to 95%",
        "",
        "less",
        ".0f",
        "up to the first evaluation at 95% of the best mean validation score of any schedule in the context",
    ),
    "seconds_to_95": Measure("time to 95%", "s", "less", ".1f", "seconds of training up to that evaluation"),
    "area": Measure(
        "area under curve", "", "more", PLAIN, "the mean validation score between the first evaluation and the last"
    ),
    "spread_over_peaks": Measure(
        "spread over peaks",
        "",
        "less",
        PLAIN,
        "best less worst validation score over the peak rates tried, seed by seed",
    ),
    "overhead": Measure("overhead", "µs", "less", ".0f", "what computing and setting the rates takes of each update"),
    "overhead_share": Measure("overhead", "%", "less", ".3f", "the same, as a share of an update's time"),
    "settings": Measure(
        "settings", "", "less", ".0f", "how many settings of the schedule were given, those that are 0 apart"
    ),
    "train_seconds": Measure("training time", "s", "less", ".1f", "seconds of updates alone, without evaluations"),
}
"""The columns, in their order, of a metric that lies between 0 and 1 and of which more is better."""

OF_ERRORS: dict[str, dict[str, str]] = {
    "score": {"better": "less"},
    "updates_to_target": {
        "meaning": "up to the first evaluation whose validation score is at most the declared target"
    },
    "updates_to_95": {
        "title": "updates to 105%",
        "meaning": (
            "up to the first evaluation at 105% of the best mean validation score of any schedule in the context"
        ),
    },
    "seconds_to_95": {"title": "time to 105%"},
    "area": {"better": "less"},
    "spread_over_peaks": {"meaning": "worst less best validation score over the peak rates tried, seed by seed"},
}
"""What is different of a metric of which less is better."""

IN_UNITS_OF_THE_METRIC = ("score", "area", "spread_over_peaks")


def measures_of(comparison: Comparison) -> dict[str, Measure]:
    """Returns the columns, in their order, as they are of the metric of `comparison`."""
    different: Mapping[str, Mapping[str, Any]] = {} if comparison.direction.greater_is_better else OF_ERRORS
    forms = dict.fromkeys(IN_UNITS_OF_THE_METRIC, comparison.form)
    return {
        key: replace(measure, form=forms.get(key, measure.form), **different.get(key, {}))
        for key, measure in MEASURES.items()
    }


def measure(comparison: Comparison, *, target: float | None) -> dict[str, dict[str, Measured]]:
    """Returns every measure of every row, by the row's name and the keys of MEASURES.

    `target`: the validation score that convergence is timed to. Raises RecordError where a history can't be read.
    """
    bars = {context: _bar(rows, comparison) for context, rows in comparison.contexts.items()}
    return {row.name: dict(_measures(row, comparison, bars[row.context], target)) for row in comparison.rows}


def _bar(rows: Iterable[Row], comparison: Comparison) -> float | None:
    means = [statistics.fmean(bests) for row in rows if (bests := row.best_scores(comparison.metric))]
    return comparison.direction.near(comparison.direction.best(means), NEAR) if means else None


def _measures(
    row: Row, comparison: Comparison, near_best: float | None, target: float | None
) -> Iterator[tuple[str, Measured]]:
    finished = [run for run in row.runs if run.record.has_scores]
    metric, direction = comparison.metric, comparison.direction
    yield "score", of(row.scores(comparison.split))
    for name, sought, missing in (
        ("target", target, "no target was declared"),
        ("95", near_best, "no run finished"),
    ):
        bar = None if sought is None else _Bar(metric, direction, sought)
        yield f"updates_to_{name}", _convergence(finished, bar, lambda point: point.step, missing)
        yield f"seconds_to_{name}", _convergence(finished, bar, lambda point: point.seconds, missing)
    yield "area", _areas(finished, metric)
    yield "spread_over_peaks", _spread_over_peaks(row, comparison)
    timings = [(record.timing, len(record.schedule.groups[0].rates)) for record in row.finished]
    overheads = [
        (timing.schedule_microseconds, timing.train_seconds / updates * 1e6)
        for timing, updates in timings
        if timing.schedule_microseconds is not None and updates and timing.train_seconds
    ]
    missing = "" if overheads else "not recorded"
    yield "overhead", of([schedule for schedule, _ in overheads], missing)
    yield "overhead_share", of([schedule / update * 100 for schedule, update in overheads], missing)
    yield "settings", of([float(len(row.settings))])
    yield "train_seconds", of([timing.train_seconds for timing, _ in timings])


def of(values: Sequence[float], note: str = "") -> Measured:
    """Returns the mean of `values`, one of each run, with its interval."""
    if not values:
        return Measured(None, 0, note or "no run finished")
    if not all(map(math.isfinite, values)):
        return Measured(None, len(values), "not a finite number")
    if len(values) == 1:
        return Measured(Interval(values[0], math.nan, math.nan, NEAR), 1, note)
    return Measured(mean_interval(values), len(values), note)


@dataclass(frozen=True)
class _Bar:
    metric: str
    direction: Direction
    score: float

    def is_reached_at(self, point: EvaluationPoint) -> bool:
        value = point.values.get(self.metric)
        return value is not None and self.direction.reaches(value, self.score)


def _convergence(
    runs: Sequence[RecordedRun], bar: _Bar | None, read: Callable[[EvaluationPoint], float], missing: str
) -> Measured:
    """Returns when the bar was reached; a run that never did counts with its end, and the note says so."""
    if bar is None:
        return Measured(None, 0, missing)
    curves = [points for run in runs if (points := run.evaluations)]
    if not curves:
        return Measured(None, 0, "the history is missing" if runs else "no run finished")
    reached = [next(filter(bar.is_reached_at, points), None) for points in curves]
    late = sum(point is None for point in reached)
    if late == len(curves):
        return Measured(None, len(curves), "never reached")
    values = [float(read(point or points[-1])) for point, points in zip(reached, curves, strict=True)]
    return of(values, f"at least: {late} of {len(curves)} never reached it, and count as their end" if late else "")


def _areas(runs: Sequence[RecordedRun], metric: str) -> Measured:
    areas = [area for run in runs if (area := _area(run.evaluations, metric)) is not None]
    return of(areas, "" if areas or not runs else "fewer than two evaluations")


def _area(points: Sequence[EvaluationPoint], metric: str) -> float | None:
    curve = [(point.step, value) for point in points if (value := point.values.get(metric)) is not None]
    width = curve[-1][0] - curve[0][0] if curve else 0
    if not width:
        return None
    return sum((there - here) * (one + other) / 2 for (here, one), (there, other) in pairwise(curve)) / width


@dataclass(frozen=True)
class PeakPoint:
    """The best validation score of one run of full length at one peak rate; None: it diverged, or had no finite one.

    `chosen`: the final runs have the peak; `of`: how many were tried, also those that shorter runs ruled out;
    `at_edge`: whether it is the lowest or the highest of these.
    """

    row: str
    peak: float
    seed: int
    score: float | None
    chosen: bool
    of: int
    at_edge: bool


def peak_points(row: Row, comparison: Comparison) -> list[PeakPoint]:
    """Returns what was tried for `row` on validation, by peak and seed.

    From the study's tuning runs, or else from the rows that differ from it in the peak rate alone.
    """
    chosen = {_peak(record) for record in row.records}
    tried = [run.record for run in comparison.tuning if _is_tuning_of(run.record, row)]
    if not tried:
        tried = [record for other in comparison.rows if _differs_in_peak_alone(row, other) for record in other.records]
    among = {_peak(record) for record in tried}
    points = []
    for record in tried:
        rung = record.study.rung if record.study else None
        peak, peaks = (_peak(record), among) if rung is None else (_look_up(record.recipe, PEAK), {*rung.peaks})
        points.append(
            PeakPoint(
                row.name,
                _peak(record),
                record.identity.seed,
                best_score(record, comparison.metric),
                chosen=_peak(record) in chosen,
                of=len(peaks),
                at_edge=peak in (min(peaks), max(peaks)),
            )
        )
    return sorted(points, key=lambda point: (point.peak, point.seed))


def _peak(record: RunRecord) -> float:
    return max(group.peak for group in record.schedule.groups)


def _is_tuning_of(record: RunRecord, row: Row) -> bool:
    final = row.records[0]
    if record.schedule.settings != final.schedule.settings or record.study is None or final.study is None:
        return False
    if record.study.rung is not None and not record.study.rung.is_last:
        return False
    keys = [key for key in row.others if key not in record.study.tuned]
    return record.study.name == final.study.name and all(
        _look_up(record.recipe, key) == row.others[key] for key in keys
    )


def _look_up(settings: Mapping[str, object], key: str) -> object:
    first, _, rest = key.partition(".")
    value = settings.get(first)
    if rest:
        return _look_up(value, rest) if isinstance(value, Mapping) else None
    return None if value == [] else value


PEAK = "optimizer.learning_rate"


def _differs_in_peak_alone(row: Row, other: Row) -> bool:
    rest = [{key: value for key, value in each.others.items() if key != PEAK} for each in (row, other)]
    return row.label == other.label and rest[0] == rest[1]


def _spread_over_peaks(row: Row, comparison: Comparison) -> Measured:
    points = peak_points(row, comparison)
    peaks = {point.peak for point in points}
    if len(peaks) < 2:
        return Measured(None, 0, "one peak rate was tried")
    by_seed: dict[int, list[float]] = {}
    for point in points:
        if point.score is not None:
            by_seed.setdefault(point.seed, []).append(point.score)
    lost = sum(point.score is None for point in points)
    whole = [max(scores) - min(scores) for scores in by_seed.values() if len(scores) == len(peaks)]
    if not whole:
        return Measured(None, 0, f"{lost} of {len(points)} runs diverged" if lost else "no seed has every peak rate")
    tried = max(point.of for point in points)
    note = f"over {len(peaks)} peak rates"
    if tried > len(peaks):
        note = f"over the {len(peaks)} of {tried} peak rates that successive halving left"
    return of(whole, note + (f"; {lost} of {len(points)} runs diverged" if lost else ""))
