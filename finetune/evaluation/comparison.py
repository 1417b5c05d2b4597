"""Runs side by side, from their records alone: a table per data set, a row per setting, seeds pooled."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from finetune.errors import RecordError
from finetune.evaluation.direction import Direction
from finetune.evaluation.forms import PLAIN, form_of
from finetune.evaluation.record import RECORD, RunRecord
from finetune.evaluation.runs import RecordedRun
from finetune.keys import IMMATERIAL, PLACES, brief, flatten, is_among

FEWEST_SEEDS = 5
# What says nothing about what was run. The data is known by its fingerprint, the model by its initial weights.
IGNORED = (*IMMATERIAL, *PLACES, "training.seed")


def in_words(settings: Mapping[str, Any]) -> str:
    """Returns settings on one line; of a thing that is known by its name, the name alone."""
    return ", ".join(
        brief(value) if key.endswith(".name") else f"{key} {brief(value)}"
        for key, value in settings.items()
        if value is not None
    )


@dataclass(frozen=True)
class Row:
    """The runs of one setting, in the order of their seeds.

    `name`: unique in its comparison; `label`: of its schedule; `others`: all further keys in which rows differ, and
    `telling` as few of them as tell the contexts apart. Rows of one context share all but their schedule and what
    their study chose for each setting, such as the peak rate.
    """

    name: str
    label: str
    others: Mapping[str, Any]
    telling: Mapping[str, Any]
    runs: tuple[RecordedRun, ...]

    @property
    def context(self) -> str:
        """The context in words; empty where there is one alone."""
        return in_words(self.telling)

    @cached_property
    def records(self) -> tuple[RunRecord, ...]:
        """The records of the runs."""
        return tuple(run.record for run in self.runs)

    @cached_property
    def finished(self) -> tuple[RunRecord, ...]:
        """The records of the runs that have scores."""
        return tuple(record for record in self.records if record.has_scores)

    @property
    def schedule(self) -> str:
        """The schedule's settings, in words."""
        return ", ".join(f"{key} {brief(value)}" for key, value in self.settings.items())

    @property
    def settings(self) -> dict[str, Any]:
        """The schedule's settings that are in force, without its name: those that are neither empty nor 0."""
        settings = self.records[0].schedule.settings
        return {key: value for key, value in settings.items() if key != "name" and value}

    @property
    def peaks(self) -> tuple[float, ...]:
        """The highest peak rate of each run, each once, ascending."""
        return tuple(sorted({max(group.peak for group in record.schedule.groups) for record in self.records}))

    @property
    def diverged(self) -> int:
        """How many runs diverged, or have no finite score; they are counted, never dropped."""
        return len(self.records) - len(self.finished)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the runs, sorted."""
        return tuple(sorted(record.identity.seed for record in self.records))

    def scores(self, split: str) -> tuple[float, ...]:
        """What the kept model of each finished run scored, by the metric that selects."""
        return tuple(record.score(split) for record in self.finished)

    def best_scores(self, metric: str) -> tuple[float, ...]:
        """The best validation score of each finished run in which one was finite."""
        return tuple(score for record in self.finished if (score := best_score(record, metric)) is not None)

    def standard_error(self, split: str, metric: str) -> float | None:
        """The largest standard error over examples of the finished runs; None where that of one isn't known."""
        errors = [
            record.results.splits[split].metrics[metric].standard_error for record in self.finished if record.results
        ]
        known = [error for error in errors if error is not None]
        return max(known) if known and len(known) == len(errors) else None

    def median(self, field: str) -> float:
        """The median over finished runs of one of the timings."""
        return float(statistics.median(getattr(record.timing, field) for record in self.finished))


def best_score(record: RunRecord, metric: str) -> float | None:
    """Returns the best validation score of a run; None where it diverged or never had a finite one."""
    return record.results.best.validation[metric] if record.results else None


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
        return _by_context(self.rows)

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
    rows = sorted(_rows(runs), key=lambda row: _rank(row, split, direction), reverse=True)
    cautions = [*_cautions(rows, split, direction)]
    if others:
        cautions.insert(
            0,
            f"{others} other run{'s' * (others > 1)} of the same training data have another test split, or none, and "
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


def _rows(runs: Sequence[RecordedRun]) -> list[Row]:
    settings = [_settings(run.record) for run in runs]
    differing = _differing(settings)
    by_setting: dict[str, list[int]] = {}
    for position, setting in enumerate(settings):
        key = json.dumps({name: setting.get(name) for name in sorted(differing)}, sort_keys=True)
        by_setting.setdefault(key, []).append(position)
    heads = [positions[0] for positions in by_setting.values()]
    tuned = {key for run in runs if run.record.study for key in run.record.study.tuned}
    own = sorted(key for key in differing if not key.startswith("schedule."))
    telling = _fewest_telling([{key: settings[head].get(key) for key in own if key not in tuned} for head in heads])
    labels = _labels([settings[head] for head in heads])
    names = [
        ", ".join(filter(None, [label, in_words(context)])) for label, context in zip(labels, telling, strict=True)
    ]
    return [
        Row(
            name=name
            if names.count(name) == 1
            else ", ".join([name, in_words({key: settings[positions[0]].get(key) for key in own if key in tuned})]),
            label=label,
            others={key: settings[positions[0]].get(key) for key in own},
            telling=context,
            runs=tuple(sorted((runs[position] for position in positions), key=lambda run: run.record.identity.seed)),
        )
        for positions, label, context, name in zip(by_setting.values(), labels, telling, names, strict=True)
    ]


def _settings(record: RunRecord) -> dict[str, Any]:
    settings = flatten(record.recipe).items()
    return {key: item for key, item in settings if item not in (None, []) and not is_among(key, IGNORED)}


def _fewest_telling(contexts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns of each context as few keys as tell any two that differ apart, names before other keys."""
    keys = sorted(contexts[0], key=lambda key: (not key.endswith(".name"), key))
    sought = len({json.dumps(context, sort_keys=True) for context in contexts})
    kept: list[str] = []
    found = 1
    for key in keys:
        if found == sought:
            break
        told = len({json.dumps([context[each] for each in [*kept, key]]) for context in contexts})
        if told > found:
            kept, found = [*kept, key], told
    return [{key: context[key] for key in kept} for context in contexts]


def _differing(settings: Sequence[Mapping[str, Any]]) -> set[str]:
    """Returns the keys whose values differ, or that only some have."""
    values: dict[str, set[str]] = {}
    counts: dict[str, int] = {}
    for setting in settings:
        for key, value in setting.items():
            # repr is the faster, and a list alone may hold mappings, whose order says nothing.
            text = json.dumps(value, sort_keys=True) if isinstance(value, list) else repr(value)
            values.setdefault(key, set()).add(text)
            counts[key] = counts.get(key, 0) + 1
    return {key for key, found in values.items() if len(found) > 1 or counts[key] < len(settings)}


def _labels(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns each schedule's name, with the settings that tell it from others of the name."""
    namesakes: dict[str, list[Mapping[str, Any]]] = {}
    for setting in settings:
        own = {key: value for key, value in setting.items() if key.startswith("schedule.")}
        namesakes.setdefault(str(setting["schedule.name"]), []).append(own)
    differing = {name: _differing(same) for name, same in namesakes.items()}
    return [
        ", ".join(
            [
                str(setting["schedule.name"]),
                *(
                    f"{key.removeprefix('schedule.')} {brief(value)}"
                    for key, value in setting.items()
                    if key in differing[str(setting["schedule.name"])]
                ),
            ]
        )
        for setting in settings
    ]


def _cautions(rows: Sequence[Row], split: str, direction: Direction) -> Iterable[str]:
    yield from _of_seeds(_set_against_each_other(rows))
    unstudied = _unstudied(rows)
    if unstudied:
        yield (
            f"The rows also differ in {', '.join(unstudied)}, which no study of theirs varies: schedules are set "
            "against each other only where it is equal."
        )
    for what, values in _unshared(rows):
        yield f"The rows don't share {what}: {', '.join(sorted(values))}."
    cooled = [row.name for row in rows if any(record.schedule.cooldown for record in row.records)]
    if cooled:
        yield f"{', '.join(cooled)}: cooled down on request, and so not the schedule alone."
    continued = [
        row.name for row in rows if any(record.continued and record.continued.changed for record in row.records)
    ]
    if continued:
        yield f"{', '.join(continued)}: gone on from a run under other settings, and so not the schedule alone."
    for row in rows:
        early = [f"{record.stopped_early.step:,}" for record in row.records if record.stopped_early]
        if early:
            planned = ", ".join(sorted({f"{r.stopped_early.planned:,}" for r in row.records if r.stopped_early}))
            yield (
                f"{row.name}: {len(early)} of its {len(row.runs)} runs stopped early, after update {', '.join(early)} "
                f"of {planned}: its schedule was cut short, and isn't seen here in whole."
            )
    for row in rows:
        lost = [record.non_finite for record in row.records if record.results]
        if any(each.losses or each.gradients for each in lost):
            yield (
                f"{row.name}: {sum(max(each.losses, each.gradients) for each in lost)} updates had a loss or gradient "
                f"that wasn't finite, and {sum(each.skipped for each in lost)} of them were skipped."
            )
    if split == "validation":
        yield f"There is no test split: scores are of the split that chose the model, and so {direction.flattering}."
    for row in rows:
        unscored = sum(record.results is not None and not record.has_scores for record in row.records)
        if unscored:
            yield f"{row.name}: {unscored} of its {len(row.runs)} runs have no finite score, and count as diverged."
        if row.diverged:
            yield (
                f"{row.name}: {row.diverged} of its {len(row.runs)} runs diverged; its scores are of the others only, "
                f"and so {direction.flattering} for a schedule that can diverge."
            )


def _set_against_each_other(rows: Sequence[Row]) -> list[list[Row]]:
    """Returns the groups of rows that are compared: those of a context, or all where there is but one schedule."""
    if len({row.label for row in rows}) == 1:
        return [[*rows]]
    return [*_by_context(rows).values()]


def _by_context(rows: Sequence[Row]) -> dict[str, list[Row]]:
    contexts: dict[str, list[Row]] = {}
    for row in rows:
        contexts.setdefault(row.context, []).append(row)
    return contexts


def _of_seeds(groups: Sequence[Sequence[Row]]) -> Iterable[str]:
    several = [group for group in groups if len(group) > 1]
    if any(len({row.seeds for row in group}) > 1 for group in several):
        yield (
            "The rows have different seeds: only those that two rows share are paired, and the rows' means are of "
            "others too, so that they also differ by the seeds."
        )
    fewest = min((len(row.finished) for group in several for row in group if row.finished), default=FEWEST_SEEDS)
    if fewest < FEWEST_SEEDS:
        seeds = "one seed" if fewest == 1 else f"{fewest} seeds"
        yield (
            f"With {seeds} in a row, this can't say which schedule is better: "
            f"a difference may come from the seed alone. Run {FEWEST_SEEDS} or more (training.seed=1, 2, …)."
        )


def _unstudied(rows: Sequence[Row]) -> list[str]:
    """Returns the keys in which rows of different schedules differ although their studies don't vary or choose them."""
    parts = [record.study for row in rows for record in row.records]
    studied = {key for part in parts if part for key in (*part.keys, *part.tuned)} if all(parts) else set()
    if len({row.label for row in rows}) == 1:
        return []
    return [key for key in rows[0].others if not any(key == one or key.startswith(f"{one}.") for one in studied)]


def _unshared(rows: Sequence[Row]) -> Iterable[tuple[str, set[str]]]:
    records = [record for row in rows for record in row.records]
    paired: dict[tuple[str, int], list[RunRecord]] = {}
    for row in rows:
        for record in row.records:
            paired.setdefault((row.context, record.identity.seed), []).append(record)
    if any(len({record.identity.model.initial_weights for record in same}) > 1 for same in paired.values()):
        yield "the initial weights at equal seeds", {record.identity.model.source for record in records}
    if any(len({record.identity.batches for record in same}) > 1 for same in paired.values()):
        yield (
            "the order of the data at equal seeds",
            {f"batches of {r.recipe['training']['batch_size']}" for r in records},
        )
    for what, values in (
        ("the device", {f"{record.environment.hardware}" for record in records}),
        ("the number of processes", {f"{record.environment.processes}" for record in records}),
        ("the precision", {record.environment.precision for record in records}),
        ("torch's version", {record.environment.versions.get("torch", "unknown") for record in records}),
    ):
        if len(values) > 1:
            yield what, values
