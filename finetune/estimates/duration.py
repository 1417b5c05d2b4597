"""How long updates take: as runs on record took, or as is said; never guessed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from finetune.errors import RecordError
from finetune.evaluation.record import RECORD, RunRecord, read_record
from finetune.keys import flatten, is_among
from finetune.recipe import Recipe

MATTERING = (
    *("task", "model", "adapter", "layers", "regularisation", "averaging", "optimizer.name"),
    *("training.batch_size", "training.micro_batch_size", "training.precision"),
    *("training.compile", "training.cuda_graphs", "training.fast_dropout"),
)
"""The blocks and keys of a recipe that decide how long an update takes."""
MOST_READ = 200
"""How many records, the newest, are looked at."""


@dataclass(frozen=True)
class Pace:
    """How long an update takes on how many devices, and by what that is known, in words.

    `runs`: how many on record it is the mean of, none where it was given. `evaluating`: the seconds that evaluations
    took, for each second of updates.
    """

    seconds_per_update: float
    devices: int
    source: str
    device: str = "cuda"
    runs: int = 0
    evaluating: float | None = None

    def device_hours(self, updates: int) -> float:
        """Returns the hours of all devices together that `updates` take, evaluations left out."""
        return updates * self.seconds_per_update * self.devices / 3600

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values."""
        return asdict(self)


def pace_on_record(recipes: Sequence[Recipe], *, runs: Path) -> Pace | None:
    """Returns the mean pace of the newest runs under the folder `runs` that update as one of `recipes` does.

    Of runs on other hardware or another number of processes, those like the newest count. None where there is none.
    """
    wanted = [among(recipe.flatten(), MATTERING) for recipe in recipes]
    alike: list[RunRecord] = []
    for record in _newest(runs):
        if among(flatten(record.recipe), MATTERING) in wanted and (not alike or _place(record) == _place(alike[0])):
            alike.append(record)
    if not alike:
        return None
    updates = sum(len(record.schedule.groups[0].rates) for record in alike)
    seconds = sum(record.timing.train_seconds for record in alike)
    environment = alike[0].environment
    named = f"{len(alike)} runs" if len(alike) > 1 else "a run"
    return Pace(
        seconds_per_update=seconds / updates,
        devices=environment.processes,
        source=f"as of {named} in {runs} on {environment.processes} × {environment.hardware}",
        device=environment.device,
        runs=len(alike),
        evaluating=sum(record.timing.evaluation_seconds for record in alike) / seconds,
    )


def _newest(runs: Path) -> Iterable[RunRecord]:
    found = sorted(runs.rglob(RECORD), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in found[:MOST_READ]:
        try:
            record = read_record(path.parent)
        except RecordError:  # of another version: it can't tell, and nothing is lost
            continue
        if record.schedule.groups and record.schedule.groups[0].rates and record.timing.train_seconds > 0:
            yield record


def _place(record: RunRecord) -> tuple[str, int]:
    return record.environment.hardware, record.environment.processes


def among(flat: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """Returns what a recipe has set of `keys`, which may be whole blocks."""
    keys = tuple(keys)
    return {key: value for key, value in flat.items() if is_among(key, keys) and value not in (None, {}, [])}
