"""Recorded runs as they lie on disk: the record is read at once, history and predictions when they are asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.errors import RecordError, listed
from finetune.evaluation.record import (
    HISTORY,
    MOST,
    PREDICTIONS,
    RECORD,
    RunRecord,
    find_runs,
    read_record,
)

NEEDED: dict[tuple[str, str], type] = {
    ("optimizer", "name"): str,
    ("training", "seed"): int,
    ("training", "batch_size"): int,
    ("evaluation", "select"): str,
    ("schedule", "name"): str,
}
TOLERANCE = 1e-6
LARGEST = 1e30
"""What an example may score, so that sums in single precision stay finite."""
MOST_PROBLEMS = 10

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pyarrow import Field
    from pyarrow.parquet import ParquetFile


@dataclass(frozen=True)
class EvaluationPoint:
    """The validation split after `step` updates, `seconds` of training and `epoch` epochs; not finite: None."""

    step: int
    epoch: float
    seconds: float
    values: Mapping[str, float | None]


@dataclass(frozen=True)
class RecordedRun:
    """A run's directory and its record."""

    path: Path
    record: RunRecord

    @cached_property
    def evaluations(self) -> tuple[EvaluationPoint, ...]:
        """The evaluations of the run, in order; none where it has no history.

        Raises RecordError for a history that can't be read.
        """
        path = self.path / HISTORY
        try:
            with path.open(encoding="utf-8") as file:
                # Most lines are updates, and needn't be parsed. A line cut short by a crash is left out.
                lines = [line for line in file if '"evaluation"' in line and line.endswith("\n")]
            return tuple(_point(json.loads(line)) for line in lines)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise RecordError(f"{path}: can't be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise RecordError(f"{path}: a line isn't one of a history; it was altered, so run again") from error

    def example_scores(self, split: str) -> NDArray[np.float32] | None:
        """Returns what each example of `split` scored, of which the metric that chose is the mean.

        From the column `score` of the predictions; without it, of an accuracy, 1 where label and prediction are equal
        and 0 elsewhere. None where the predictions, or these columns, aren't there, and for scores beyond `LARGEST`.
        Raises RecordError where the table can't be read, or contradicts the record.
        """
        import pyarrow
        from pyarrow import parquet

        if not self.record.has_scores:
            return None
        path = self.path / PREDICTIONS / f"{split}.parquet"
        try:
            with parquet.ParquetFile(path) as file:
                scores = _scores_in(file, select=self.record.recipe["evaluation"]["select"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, pyarrow.ArrowException) as error:
            raise RecordError(f"{path}: can't be read as predictions: {error}") from error
        if scores is None:
            return None
        self._check(path, split, scores)
        return scores.astype("float32") if abs(scores).max(initial=0.0) <= LARGEST else None

    def _check(self, path: Path, split: str, scores: NDArray[np.float64]) -> None:
        select, count = self.record.recipe["evaluation"]["select"], self.record.identity.data[split].count
        recorded, found = self.record.score(split), float(scores.mean()) if len(scores) else 0.0
        size = float(abs(scores).mean()) if len(scores) else 0.0
        if len(scores) != count or abs(recorded - found) > TOLERANCE * size:
            said = (
                f"{found:.6f} of {len(scores):,} predictions are right, and the record says {recorded:.6f}"
                if select == "accuracy"
                else f"the mean score of {len(scores):,} examples is {found:.7g}, and the record says {select} "
                f"{recorded:.7g}"
            )
            raise RecordError(f"{path}: {said} of {count:,}; one of them was altered, so run again")


def _scores_in(file: ParquetFile, *, select: str) -> NDArray[np.float64] | None:
    """Returns what each example scored by a table of predictions; None where it doesn't say."""
    import numpy as np
    import pyarrow
    from pyarrow import compute

    schema = file.schema_arrow
    if "score" in schema.names:
        column = file.read(columns=["score"], use_threads=False)["score"]
        scores = column.cast(pyarrow.float64())
    elif select == "accuracy" and {"label", "prediction"} <= {*schema.names} and _is_one_class(schema.field("label")):
        table = file.read(columns=["label", "prediction"], use_threads=False)
        scores = compute.fill_null(compute.equal(table["label"], table["prediction"]), fill_value=False)
    else:
        return None
    # to_numpy would load pandas, which takes a third of a second.
    found = np.array(scores.to_pylist(), dtype=float)
    if not np.isfinite(found).all():
        raise ValueError("what an example scored isn't a finite number")
    return found


def _is_one_class(column: Field) -> bool:
    """Whether an example has one label, rather than one for each of its tokens or several of many."""
    from pyarrow import types

    return not types.is_nested(column.type)


def _point(row: Mapping[str, Any]) -> EvaluationPoint:
    step, epoch, seconds, values = (row[key] for key in ("step", "epoch", "seconds", "evaluation"))
    numbers = [step, epoch, seconds, *(value for value in values.values() if value is not None)]
    if not (
        isinstance(step, int) and all(isinstance(number, int | float) and abs(number) <= MOST for number in numbers)
    ):
        raise TypeError("not a row of an evaluation")
    return EvaluationPoint(step, float(epoch), float(seconds), values)


def read_runs(places: Sequence[Path]) -> list[RecordedRun]:
    """Returns every recorded run at or under `places`, sorted by place, each once.

    Raises RecordError, which names every record that can't be read or contradicts itself.
    """
    runs, problems = [], []
    for path in find_runs(places):
        try:
            runs.append(read_run(path))
        except RecordError as error:
            problems.append(str(error))
    if problems:
        more = [f"… and {len(problems) - MOST_PROBLEMS} more"] if len(problems) > MOST_PROBLEMS else []
        raise RecordError("\n".join([*problems[:MOST_PROBLEMS], *more]))
    return runs


def read_run(path: Path) -> RecordedRun:
    """Returns the recorded run in the directory `path`.

    Raises RecordError where its record can't be read or contradicts itself.
    """
    return RecordedRun(path, _consistent(path, read_record(path)))


def _consistent(path: Path, record: RunRecord) -> RunRecord:
    """Returns `record`; raises RecordError where it lacks a part, or one part of it contradicts another."""
    for missing in _missing(record):
        raise RecordError(f"{path / RECORD}: has no {missing}, or not as a run writes it; it was altered, so run again")
    identity, results = record.identity, record.results
    said: dict[str, tuple[object, object]] = {
        "the seed": (identity.seed, record.recipe["training"]["seed"]),
        "whether it finished": (record.status == "finished", results is not None),
    }
    if results:
        said["the metric that chose"] = (results.select, record.recipe["evaluation"]["select"])
    for split, result in results.splits.items() if results else ():
        count = identity.data[split].count if split in identity.data else None
        said[f"the number of {split} examples"] = (result.count, count)
    if results and results.kept == "best":
        kept, best = results.splits["validation"].metrics[results.select].value, results.best.validation[results.select]
        said[f"the validation {results.select}"] = (kept, best)
    for what, (one, other) in said.items():
        if one != other:
            raise RecordError(
                f"{path / RECORD}: contradicts itself on {what}, {listed([str(one)])} in one place and "
                f"{listed([str(other)])} in another; it was altered, so run again"
            )
    return record


def _missing(record: RunRecord) -> Iterator[str]:
    """Yields the place of each part that comparisons read and the format leaves open, and that isn't there."""
    for (block, key), kind in NEEDED.items():
        settings = record.recipe.get(block)
        if not (isinstance(settings, Mapping) and isinstance(settings.get(key), kind)):
            yield f"recipe.{block}.{key}"
    if not isinstance(record.schedule.settings.get("name"), str):
        yield "schedule.settings.name"
    if not record.schedule.groups or not all(1 / MOST < group.peak < MOST for group in record.schedule.groups):
        yield "schedule.groups"
    for split in ("train", "validation"):
        if split not in record.identity.data:
            yield f"identity.data.{split}"
    if record.results is None:
        return
    select = record.results.select
    for split in sorted(record.identity.data.keys() - {"train"}):
        result = record.results.splits.get(split)
        if result is None or select not in result.metrics:
            yield f"results.splits.{split}.metrics.{select}"
    if select not in record.results.best.validation:
        yield f"results.best.validation.{select}"
