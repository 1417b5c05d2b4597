"""Runs side by side, from their records alone: a table per data set, a row per setting, seeds pooled."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetune.evaluation.record import RunRecord

FEWEST_SEEDS = 5
LONGEST = 60
# Where a recipe, its model and its data lie and what its runs are called say nothing about what was run: the data is
# known by its fingerprint, the model by its initial weights.
IGNORED = ("name", "output", "training.seed")
PLACES = ("data.files.", "data.hub", "data.config", "data.revision", "data.splits.", "model.path")


def brief(value: Any) -> str:
    """Returns a setting's value in few words: of a long list, how long it is, and a sign that tells it from others."""
    if not isinstance(value, list) or len(str(value)) <= LONGEST:
        return str(value)
    return f"[{len(value)} items, {hashlib.sha256(json.dumps(value).encode()).hexdigest()[:4]}]"


@dataclass(frozen=True)
class Row:
    """The runs of one setting: `label` names its schedule, `others` the further keys in which the rows differ."""

    label: str
    others: Mapping[str, Any]
    records: tuple[RunRecord, ...]

    @property
    def finished(self) -> tuple[RunRecord, ...]:
        """The runs that have results."""
        return tuple(record for record in self.records if record.results is not None)

    @property
    def schedule(self) -> str:
        """The schedule's settings, in words."""
        settings = self.records[0].schedule.settings
        own = {key: value for key, value in settings.items() if key != "name" and value is not None}
        return ", ".join(f"{key} {brief(value)}" for key, value in own.items())

    @property
    def name(self) -> str:
        """The label, with whatever else tells the row from others."""
        return ", ".join([self.label, *(f"{key} {brief(value)}" for key, value in self.others.items() if value)])

    @property
    def context(self) -> dict[str, Any]:
        """The further keys, but for those that its study chose for each setting."""
        tuned = {key for record in self.records if record.study for key in record.study.tuned}
        return {key: value for key, value in self.others.items() if key not in tuned}

    @property
    def diverged(self) -> int:
        """How many runs diverged; they are counted, never dropped."""
        return len(self.records) - len(self.finished)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the runs, sorted."""
        return tuple(sorted(record.identity.seed for record in self.records))

    def scores(self, split: str, metric: str) -> tuple[float, ...]:
        """The metric of the kept model of each finished run."""
        return tuple(record.results.splits[split].metrics[metric].value for record in self.finished if record.results)

    def standard_error(self, split: str, metric: str) -> float:
        """The largest standard error over examples of the finished runs."""
        return max(
            record.results.splits[split].metrics[metric].standard_error for record in self.finished if record.results
        )

    def median(self, field: str) -> float:
        """The median over finished runs of one of the timings."""
        return float(statistics.median(getattr(record.timing, field) for record in self.finished))


@dataclass(frozen=True)
class Comparison:
    """Rows that may be compared: they share data, classes and metric. `split`: the one they are judged on.

    `cautions`: sentences on what the rows do not share, or can't show.
    """

    split: str
    metric: str
    count: int
    rows: tuple[Row, ...]
    cautions: tuple[str, ...]


def compare(records: Iterable[RunRecord]) -> list[Comparison]:
    """Returns a comparison per data set and metric among `records`, rows in descending order of their mean score."""
    groups: dict[str, list[RunRecord]] = {}
    for record in records:
        groups.setdefault(_judged_on(record), []).append(record)
    return [_compare_group(group) for group in groups.values()]


def _judged_on(record: RunRecord) -> str:
    data = {split: identity.fingerprint for split, identity in record.identity.data.items()}
    return json.dumps([data, record.identity.classes, record.recipe["evaluation"]["select"]], sort_keys=True)


def _compare_group(records: Sequence[RunRecord]) -> Comparison:
    settings = [
        {key: item for key, item in _flatten(record.recipe).items() if not key.startswith(PLACES)} for record in records
    ]
    differing = _differing(settings) - set(IGNORED)
    by_setting: dict[str, list[int]] = {}
    for position, setting in enumerate(settings):
        key = json.dumps({name: setting.get(name) for name in sorted(differing)}, sort_keys=True)
        by_setting.setdefault(key, []).append(position)
    first = records[0]
    split = "test" if "test" in first.identity.data else "validation"
    metric = str(first.recipe["evaluation"]["select"])
    rows = [
        Row(
            label=_label(settings[positions[0]], settings),
            others={
                key: settings[positions[0]].get(key) for key in sorted(differing) if not key.startswith("schedule.")
            },
            records=tuple(records[position] for position in positions),
        )
        for positions in by_setting.values()
    ]
    rows.sort(key=lambda row: statistics.fmean(row.scores(split, metric) or [float("-inf")]), reverse=True)
    return Comparison(
        split=split,
        metric=metric,
        count=first.identity.data[split].count,
        rows=tuple(rows),
        cautions=tuple(_cautions(rows, split)),
    )


def _differing(settings: Sequence[Mapping[str, Any]]) -> set[str]:
    """Returns the keys whose values differ, or that only some have."""
    values: dict[str, set[str]] = {}
    counts: dict[str, int] = {}
    for setting in settings:
        for key, value in setting.items():
            values.setdefault(key, set()).add(json.dumps(value, sort_keys=True))
            counts[key] = counts.get(key, 0) + 1
    return {key for key, found in values.items() if len(found) > 1 or counts[key] < len(settings)}


def _flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping):
            flat |= _flatten(item, f"{prefix}{key}.")
        elif item not in (None, []):
            flat[f"{prefix}{key}"] = item
    return flat


def _label(setting: Mapping[str, Any], settings: Sequence[Mapping[str, Any]]) -> str:
    """Returns the schedule's name, with the settings that tell it from others of the name among `settings`."""
    name = setting["schedule.name"]
    namesakes = [other for other in settings if other["schedule.name"] == name]
    telling = [
        f"{key.removeprefix('schedule.')} {brief(value)}"
        for key, value in setting.items()
        if key.startswith("schedule.") and any(other.get(key) != value for other in namesakes)
    ]
    return ", ".join([str(name), *telling])


def _cautions(rows: Sequence[Row], split: str) -> Iterable[str]:
    if len(rows) > 1:
        if len({row.seeds for row in rows}) > 1:
            yield "The rows have different seeds, so they are not paired: differences also come from the seeds."
        fewest = min(len(row.finished) for row in rows)
        if fewest < FEWEST_SEEDS:
            seeds = "one seed" if fewest == 1 else f"{fewest} seeds"
            yield (
                f"With {seeds} in a row, this can't say which schedule is better: "
                f"a difference may come from the seed alone. Run {FEWEST_SEEDS} or more (training.seed=1, 2, …)."
            )
    for what, values in _unshared(rows):
        yield f"The rows don't share {what}: {', '.join(sorted(values))}."
    cooled = [row.label for row in rows if any(record.schedule.cooldown for record in row.records)]
    if cooled:
        yield f"{', '.join(cooled)}: cooled down on request, and so not the schedule alone."
    if split == "validation":
        yield "There is no test split: scores are of the split that chose the model, and so too high."
    diverged = {row.label: row.diverged for row in rows if row.diverged}
    for label, count in diverged.items():
        yield f"{label}: {count} of its runs diverged; its scores are of the others only."


def _unshared(rows: Sequence[Row]) -> Iterable[tuple[str, set[str]]]:
    records = [record for row in rows for record in row.records]
    by_seed: dict[int, list[RunRecord]] = {}
    for record in records:
        by_seed.setdefault(record.identity.seed, []).append(record)
    if any(len({record.identity.model.initial_weights for record in same}) > 1 for same in by_seed.values()):
        yield "the initial weights at equal seeds", {record.identity.model.source for record in records}
    if any(len({record.identity.batches for record in same}) > 1 for same in by_seed.values()):
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
