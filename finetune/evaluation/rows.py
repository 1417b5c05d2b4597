"""The rows of a comparison: the runs of one setting, told apart by their schedule and by what else differs."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from finetune.evaluation.record import RunRecord
from finetune.evaluation.runs import RecordedRun
from finetune.keys import IMMATERIAL, PLACES, brief, flatten, is_among

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


def by_context(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Returns the rows of each context, by its words, in their order."""
    contexts: dict[str, list[Row]] = {}
    for row in rows:
        contexts.setdefault(row.context, []).append(row)
    return contexts


def rows_of(runs: Sequence[RecordedRun]) -> list[Row]:
    """Returns a row for each setting among runs that may be compared."""
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
