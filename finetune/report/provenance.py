"""How the runs were made: recipes, data, model, machine and time, from the records alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import yaml

from finetune.evaluation.claims import PEAK
from finetune.evaluation.record import RunRecord
from finetune.evaluation.rows import Row
from finetune.figures.curves import number
from finetune.keys import brief
from finetune.report.tables import Cell, Line, Name, Table
from finetune.report.view import View

Facts = list[tuple[str, str]]

PATHS = {"model": ("path",), "data": ("files",)}


def facts(view: View) -> Facts:
    """Returns what can be said in a line each, the same thing once: all values where runs differ in one."""
    comparison = view.analysis.comparison
    records = [record for row in view.rows for record in row.records]
    tuning = [run.record for run in comparison.tuning]
    return [
        ("Runs", _runs(records, tuning)),
        ("When", _when([*records, *tuning])),
        *_study(records),
        *_data(records),
        ("Model", _each(_model(record) for record in records)),
        ("Hardware", _each(f"{record.environment.hardware} ({record.environment.device})" for record in records)),
        ("Platform", _each(record.environment.platform for record in records)),
        ("Precision", _each(record.environment.precision for record in records)),
        ("Processes", _each(_processes(record) for record in records)),
        ("Versions", _versions(records)),
    ]


def _runs(records: Sequence[RunRecord], tuning: Sequence[RunRecord]) -> str:
    lost = sum(record.results is None for record in records)
    chosen = f", and {len(tuning):,} that chose the peak rates" if tuning else ""
    return f"{len(records):,} compared, of which {lost or 'none'} diverged{chosen}"


def _when(records: Sequence[RunRecord]) -> str:
    first = min(record.timing.started for record in records)[:10]
    last = max(record.timing.finished for record in records)[:10]
    total = sum(record.timing.total_seconds for record in records)
    train = sum(record.timing.train_seconds for record in records)
    days = first if first == last else f"{first} to {last}"
    return f"{days}; {_duration(total)} of runs, {_duration(train)} of it updates"


def _duration(seconds: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:.0f} s"


def _study(records: Sequence[RunRecord]) -> Facts:
    parts = [record.study for record in records if record.study]
    if not parts:
        return []
    return [
        ("Study", _each(part.name for part in parts)),
        ("Varied", _each(", ".join(part.keys) for part in parts)),
        ("Chosen on validation", _each(", ".join(part.tuned) or "nothing" for part in parts)),
    ]


def _data(records: Sequence[RunRecord]) -> Facts:
    splits = list(dict.fromkeys(split for record in records for split in record.identity.data))
    found = []
    for split in splits:
        identities = [record.identity.data[split] for record in records if split in record.identity.data]
        found.append(
            (
                f"Data, {split}",
                _each(
                    f"{each.count:,} examples, SHA-256 {each.fingerprint}"
                    + (f", {each.truncated:,} cut to fit" if each.truncated else "")
                    for each in identities
                ),
            )
        )
    classes = _each(", ".join(record.identity.classes) for record in records)
    return [*found, *([("Classes", classes)] if classes else [])]


def _model(record: RunRecord) -> str:
    model = record.identity.model
    commit = f" at {model.commit}" if model.commit else ""
    new = f", new: {', '.join(model.new_tensors)}" if model.new_tensors else ""
    trained = f", {model.trained_parameters:,} of them trained" if model.trained_parameters is not None else ""
    return f"{model.source}{commit}, {model.architecture}, {model.parameters:,} parameters{trained}{new}"


def _processes(record: RunRecord) -> str:
    environment = record.environment
    return (
        f"{environment.processes} of {environment.threads} thread{'s' * (environment.threads > 1)}, "
        f"{environment.accumulation} micro-batch{'es' * (environment.accumulation > 1)} per update"
    )


def _versions(records: Sequence[RunRecord]) -> str:
    names = dict.fromkeys(name for record in records for name in record.environment.versions)
    return ", ".join(
        f"{name} {_each((record.environment.versions.get(name, 'unknown') for record in records), ' or ')}"
        for name in names
    )


def _each(values: Iterable[str], between: str = "; ") -> str:
    return between.join(dict.fromkeys(values))


def settings(view: View) -> Table:
    """Returns the settings of every row: of its schedule, its peak rates, and all else in which rows differ."""
    keys = [key for key in view.rows[0].others if key != PEAK]
    return Table(
        "The rows",
        "row",
        ("schedule", "peak rates", "seeds", *keys),
        tuple((head, tuple(_settings(view, row, rows, keys) for row in rows)) for head, rows in view.panels.items()),
        is_text=True,
    )


def _settings(view: View, row: Row, rows: Sequence[Row], keys: Sequence[str]) -> Line:
    others = ("–" if row.others[key] is None else brief(row.others[key]) for key in keys)
    words = (row.schedule or "no settings", ", ".join(map(number, row.peaks)), _listed(row.seeds), *others)
    return Line((Name(view.label(row, rows), view.legend.number(view.key(row))),), tuple(map(Cell, words)))


def _listed(seeds: Sequence[int]) -> str:
    whole = len(seeds) > 2 and len(set(seeds)) == len(seeds) == seeds[-1] - seeds[0] + 1
    return f"{seeds[0]}–{seeds[-1]}" if whole else ", ".join(map(str, seeds))


def recipe(view: View) -> str:
    """Returns the recipe of the first run as YAML, without where things lay on the machine that ran it."""
    return without_places(view.rows[0].records[0].recipe)


def without_places(recorded: Mapping[str, Any]) -> str:
    """Returns a recorded recipe as YAML; of a path only the last part stays."""
    kept = {
        key: dict(_without_paths(key, value)) if isinstance(value, Mapping) else value
        for key, value in recorded.items()
    }
    kept["plugins"] = _last_parts(recorded.get("plugins"))
    kept = {key: value for key, value in kept.items() if key != "output" and value not in (None, {}, [])}
    return str(yaml.safe_dump(kept, sort_keys=False, allow_unicode=True, width=100))


def _without_paths(part: str, settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if value is not None:
            yield key, _last_parts(value) if key in PATHS.get(part, ()) else value


def _last_parts(value: Any) -> Any:
    if isinstance(value, str):
        return PurePath(value).name
    if isinstance(value, Mapping):
        return {key: _last_parts(item) for key, item in value.items()}
    return [_last_parts(item) for item in value] if isinstance(value, list) else value
