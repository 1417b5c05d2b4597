"""The record of one run: a directory of plain files, whose `record.json` says what ran and what came of it.

recipe.yaml                the resolved recipe; running it again repeats the run
record.json                this module's RunRecord
history.jsonl              a line per update and per evaluation
predictions/SPLIT.parquet  a row per example of each evaluated split
model/                     the kept model and its tokenizer
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from finetune.errors import RecordError, did_you_mean_path, listed
from finetune.whole_files import replacing

RECORD = "record.json"
RECIPE = "recipe.yaml"
HISTORY = "history.jsonl"
MODEL = "model"
PREDICTIONS = "predictions"
FORMAT = 1
MOST = 1e100
"""What no score, loss or time of a run is beyond, so that sums and squares of them stay finite."""

Number = Annotated[float, Field(ge=-MOST, le=MOST)]
Count = Annotated[int, Field(gt=0, lt=2**53)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, defer_build=True)


def finite(value: float) -> float | None:
    """Returns what a record holds of a figure: None where it isn't finite, or beyond `MOST`."""
    return value if abs(value) <= MOST else None


class Score(_Part):
    """A metric over one split, and its standard error over the choice of examples; null where it isn't finite."""

    value: Number | None
    standard_error: Number | None


class SplitResult(_Part):
    """One model on one split of `count` examples. `loss`: mean over examples, null where it isn't finite."""

    count: int
    loss: Number | None
    metrics: dict[str, Score]


class SplitIdentity(_Part):
    """What a split was. `fingerprint`: SHA-256 of the columns read, in order; `truncated`: examples cut to fit."""

    fingerprint: str
    count: Count
    truncated: int


class ModelIdentity(_Part):
    """What was fine-tuned. `initial_weights`: SHA-256 of every tensor before the first update, new head included.

    `trained_parameters`: how many of `parameters` are trained, where others are frozen.
    """

    source: str
    commit: str | None
    architecture: str
    parameters: int
    new_tensors: list[str]
    initial_weights: str
    trained_parameters: int | None = None

    @model_serializer(mode="wrap")
    def _without_what_is_left_out(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves `trained_parameters` out where all are, so that versions before it read such records too."""
        plain: dict[str, Any] = serialize(self)
        return {key: value for key, value in plain.items() if key != "trained_parameters" or value is not None}


class Identity(_Part):
    """What two runs must share to be compared fairly. `batches`: SHA-256 of the first epoch's batches, in order."""

    data: dict[str, SplitIdentity]
    classes: list[str]
    model: ModelIdentity
    batches: str
    seed: Annotated[int, Field(ge=0, lt=2**32)]


class GroupRates(_Part):
    """One parameter group, and the rate applied at each update made, in order."""

    name: str
    peak: float
    weight_decay: float
    parameters: int
    rates: list[float]


class ScheduleRecord(_Part):
    """The schedule over a run of `total_steps` updates; `cooldown`: one that was asked for on the way."""

    settings: dict[str, Any]
    cooldown: dict[str, Any] | None = None
    total_steps: Count
    updates_per_epoch: Count
    groups: list[GroupRates]


class Environment(_Part):
    """What the run ran on. `precision`: the one in force, whatever was asked for."""

    device: str
    hardware: str
    processes: int
    threads: int
    accumulation: int
    precision: str
    platform: str
    versions: dict[str, str]


class Timing(_Part):
    """Wall-clock seconds. `train_seconds`: updates alone; `evaluation_seconds`: all that is done between them.

    `schedule_microseconds`: what computing and setting the rates took of each update of this process.
    """

    started: str
    finished: str
    total_seconds: Number
    train_seconds: Number
    evaluation_seconds: Number
    samples_per_second: Number
    schedule_microseconds: Number | None = None


class Evaluated(_Part):
    """The loss and the metrics on the validation split after `step` updates."""

    step: int
    validation: dict[str, Number | None]


class NonFinite(_Part):
    """How many updates had a loss or a gradient that wasn't finite, and how many of them were left out."""

    losses: int
    gradients: int
    skipped: int


class Continued(_Part):
    """The run that this one went on from, after update `step`: `changed` holds each key's value then and now.

    `on_change`: how the new schedule took over, as in `finetune.schedules.make_scheduler`; or "share", where nothing
    had to: `run` is a trunk, whose updates are those that this run would have made, and other runs went on from it too.
    """

    run: str
    step: int
    on_change: str
    changed: dict[str, tuple[Any, Any]]


Weights = Literal["plain", "ema", "average"]
"""Those that updates make, their exponential average, or the mean of them at the last evaluations."""


class Beside(_Part):
    """Weights of a run that weren't kept, as they were at its end, on each split; `best`, `last`: as in `Results`."""

    splits: dict[str, SplitResult]
    best: Evaluated
    last: Evaluated


class StoppedEarly(_Part):
    """A run that ended after `step` of `planned` updates, as no evaluation after `best_step` was better."""

    step: Count
    planned: Count
    best_step: Count | None

    def __str__(self) -> str:
        best = "" if self.best_step is None else f", none better than that of update {self.best_step}"
        return f"after update {self.step} of {self.planned}{best}"


class Results(_Part):
    """`splits`: the kept model on each split; `best`: the evaluation ranked first by `select`; `last`: the last.

    `greater_is_better`: whether more of `select` is better, as of an accuracy, or less, as of an error. `weights`:
    which of the run's weights all of this is of, where averages of them were evaluated too; of the average of the last
    evaluations, which is there at the end alone, `best` and `last` are the same. `beside`: what became of the others.
    """

    select: str
    greater_is_better: bool = True
    kept: Literal["best", "last"]
    kept_step: int
    splits: dict[str, SplitResult]
    best: Evaluated
    last: Evaluated
    weights: Weights = "plain"
    beside: dict[Weights, Beside] | None = None

    @model_serializer(mode="wrap")
    def _without_what_is_usual(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out that more is better and that nothing was averaged: versions before these read such records too."""
        plain: dict[str, Any] = serialize(self)
        usual = {"greater_is_better": True, "weights": "plain", "beside": None}
        return {key: value for key, value in plain.items() if key not in usual or value != usual[key]}


class RungPart(_Part):
    """Where a run stands in a successive halving: on rung `number` of `of`, the last of which is of full duration.

    `peaks`: the peak rates that were tried on the first, the recipe's own groups apart.
    """

    number: Count
    of: Count
    peaks: list[float]

    @property
    def is_last(self) -> bool:
        """Whether the run is of full duration, and can stand beside those that are compared."""
        return self.number == self.of


class StudyPart(_Part):
    """What a run was for, in the study `name`, as declared before it was made.

    `keys`: the dotted keys of the recipe that the study varies, in the order of its grid; `tuned`: those chosen for
    each setting rather than compared, such as the peak rate; `role`: tuning runs chose them, final ones are compared.
    `reference`: the schedule that the others are compared with, null for each with each. `equivalence`: the least
    difference that matters, in units of the metric; `target`: the score that convergence is timed to. `rung`: of a
    tuning run, where peaks are chosen by successive halving.
    """

    name: str
    role: Literal["tuning", "final"]
    keys: list[str]
    tuned: list[str]
    reference: str | None = None
    equivalence: Number | None = None
    target: Number | None = None
    rung: RungPart | None = None

    @model_serializer(mode="wrap")
    def _without_what_is_left_out(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves `rung` out where there is none, so that versions before it read such records too."""
        plain: dict[str, Any] = serialize(self)
        return {key: value for key, value in plain.items() if key != "rung" or value is not None}


class RunRecord(_Part):
    """All that is known of one run. `results` is null for a run that diverged: it has no model to trust."""

    format: Literal[1] = 1
    status: Literal["finished", "diverged"]
    diverged_at_step: int | None = None
    name: str
    recipe: dict[str, Any]
    identity: Identity
    schedule: ScheduleRecord
    environment: Environment
    timing: Timing
    results: Results | None
    study: StudyPart | None = None
    non_finite: NonFinite = NonFinite(losses=0, gradients=0, skipped=0)
    continued: Continued | None = None
    stopped_early: StoppedEarly | None = None

    @model_serializer(mode="wrap")
    def _without_what_is_left_out(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves `stopped_early` out of a run that wasn't, so that versions before it read such records too."""
        plain: dict[str, Any] = serialize(self)
        return {key: value for key, value in plain.items() if key != "stopped_early" or value is not None}

    @property
    def has_scores(self) -> bool:
        """Whether the run has a model, and this a finite score, by the metric that selects, on every split."""
        results = self.results
        return results is not None and all(
            results.select in split.metrics and split.metrics[results.select].value is not None
            for split in results.splits.values()
        )

    def score(self, split: str) -> float:
        """Returns what the kept model scored on `split` by the metric that selects; the run must have scores."""
        assert self.results is not None  # noqa: S101 - the caller's condition
        value = self.results.splits[split].metrics[self.results.select].value
        assert value is not None  # noqa: S101 - likewise
        return value


def read_record(run: Path) -> RunRecord:
    """Returns the record in the directory `run`; raises RecordError where there is none or it isn't one."""
    path = run / RECORD
    try:
        return RunRecord.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise RecordError(f"{path}: no such file; a run writes it when it ends") from error
    except OSError as error:
        raise RecordError(f"{path}: can't be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(listed([str(part)]) for part in first["loc"]) or "the file"
        if first["loc"] == ("format",) and isinstance(first["input"], int) and first["input"] > FORMAT:
            raise RecordError(
                f"{path}: a record of format {first['input']}, and this version reads format {FORMAT}; a newer version "
                "wrote it, so upgrade finetune-schedules"
            ) from error
        raise RecordError(
            f"{path}: not a record of format {FORMAT} ({place}: {first['msg']}); it was altered, or another version "
            "wrote it"
        ) from error


def write_record(run: Path, record: RunRecord) -> None:
    """Writes `record` into the directory `run`, whole or not at all."""
    text = record.model_dump_json(indent=2)
    write_atomically(run / RECORD, lambda path: path.write_text(text + "\n", encoding="utf-8"))


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Makes `path` by `write(temporary)`, flushed to disk and renamed into place; a crash leaves the old file or none.

    Raises RecordError where the place can't be written.
    """
    try:
        with replacing(path) as temporary:
            write(temporary)
    except OSError as error:
        raise RecordError(f"{path}: can't be written: {error.strerror or error}") from error


def read_history(run: Path) -> list[dict[str, Any]]:
    """Returns the history of `run`, a dict per line; a last line cut short by a crash is left out.

    Raises RecordError where it can't be read, or a line is none of a history.
    """
    path = run / HISTORY
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        rows: list[Any] = [json.loads(line) for line in lines if line.endswith("\n")]
    except OSError as error:
        raise RecordError(f"{path}: can't be read: {error.strerror}") from error
    except (ValueError, RecursionError):
        rows = [None]
    if not all(isinstance(row, dict) for row in rows):
        raise RecordError(f"{path}: a line isn't one of a history; it was altered, so run again")
    return rows


def _why_no_record(place: Path) -> str:
    if (place / RECIPE).exists():
        return f"that run has no {RECORD} yet, which it writes when it ends"
    what = f"holds no {RECORD}" if place.is_dir() else "is a file"
    return f"{what}; give a run's directory, or one that holds runs"


def find_runs(places: Sequence[Path]) -> Iterator[Path]:
    """Yields every directory at or under `places` that holds a record, sorted, each once.

    Raises RecordError for a place that doesn't exist or holds no record.
    """
    seen = set()
    for place in places:
        if not place.exists():
            raise RecordError(f"{place}: no such directory{did_you_mean_path(place)}")
        records = sorted(place.rglob(RECORD)) if place.is_dir() else []
        if not records:
            raise RecordError(f"{place}: {_why_no_record(place)}")
        for path in records:
            resolved = path.parent.resolve()
            if resolved not in seen:
                seen.add(resolved)
                yield path.parent
