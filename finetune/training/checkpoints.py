"""The checkpoints of a run, and the models it may still keep: written whole, verified, and no more of them than needed.

RUN/checkpoints/identity.json       what they are made from: data, weights at the start, plugins
RUN/checkpoints/checkpoint-STEP/    weights, and the state of optimizer, schedule, scaler, averages, random generators
RUN/checkpoints/model-STEP/         a model that ranked first when it was evaluated
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.errors import RecordError
from finetune.evaluation.record import HISTORY, Continued, write_atomically
from finetune.training.whole_folders import MANIFEST, facts_of, fault_of, flush, is_sealed, seal, write_whole

if TYPE_CHECKING:
    from finetune.training.trainer import ScheduledTrainer

CHECKPOINTS = "checkpoints"
IDENTITY = "identity.json"
STATE = "training"
_CHECKPOINT, _MODEL = "checkpoint-", "model-"


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint of `run`, after update `step`. `rows`: the history up to there; `kept_step`: of the model that
    ranked first; `continued`: what the run itself went on from under other settings."""

    run: Path
    step: int
    kept_step: int | None
    rows: list[dict[str, Any]]
    continued: Continued | None

    @property
    def path(self) -> Path:
        """Where it lies."""
        return _checkpoint(self.run, self.step)


def _checkpoint(run: Path, step: int) -> Path:
    return run / CHECKPOINTS / f"{_CHECKPOINT}{step}"


def step_of(place: Path) -> int | None:
    """Returns the update after which the checkpoint `place` was written; None where that is no checkpoint's name."""
    prefix, _, number = place.name.rpartition("-")
    return int(number) if f"{prefix}-" == _CHECKPOINT and number.isdecimal() else None


def kept_model(run: Path, step: int) -> Path:
    """Returns where the model of update `step` lies while the run goes on."""
    return run / CHECKPOINTS / f"{_MODEL}{step}"


def newest_checkpoint(run: Path, *, say: Callable[[str], None]) -> Checkpoint | None:
    """Returns the whole checkpoint of `run` made last; `say` is told of each newer one that is passed over, and why."""
    for step in sorted(_steps(run, _CHECKPOINT), reverse=True):
        found = checkpoint_of(run, step)
        if isinstance(found, Checkpoint):
            return found
        say(f"{_checkpoint(run, step)}: passed over: {found}")
    return None


def checkpoint_of(run: Path, step: int) -> Checkpoint | str:
    """Returns the checkpoint of `run` after update `step`, or what is wrong with it."""
    path = _checkpoint(run, step)
    fault = fault_of(path)
    if fault is not None:
        return fault
    try:
        kept_step, continued = _read_facts(path)
    except ValueError as error:
        return f"its {MANIFEST} says what no run writes ({error})"
    if kept_step is not None and (fault := fault_of(kept_model(run, kept_step))) is not None:
        return f"the model of update {kept_step}, which it keeps: {fault}"
    rows = [row for row in _whole_rows(run) if row["step"] <= step]
    if sum("rates" in row for row in rows) != step:
        return f"{HISTORY} lacks updates before it"
    return Checkpoint(run, step, kept_step, rows, continued)


def _read_facts(path: Path) -> tuple[int | None, Continued | None]:
    facts = facts_of(path)
    kept_step, continued = facts.get("kept_step"), facts.get("continued")
    if kept_step is not None and type(kept_step) is not int:
        raise ValueError("kept_step")
    return kept_step, None if continued is None else Continued.model_validate_json(continued)


def _whole_rows(run: Path) -> list[dict[str, Any]]:
    """Returns the rows of the history up to the first that was cut short or altered."""
    rows: list[dict[str, Any]] = []
    try:
        text = (run / HISTORY).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return rows
    for line in text.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            break
        if not isinstance(row, dict) or not isinstance(row.get("step"), int):
            break
        rows.append(row)
    return rows


def write_checkpoint(
    trainer: ScheduledTrainer, run: Path, *, kept_step: int | None, continued: Continued | None
) -> None:
    """Writes the checkpoint of the update just made; every process calls it."""
    from accelerate.utils import gather_object
    from transformers.trainer import TRAINER_STATE_NAME

    from finetune.training.plain_state import write_state
    from finetune.training.random_state import random_state
    from finetune.training.shards import made_whole
    from finetune.training.weights import write_weights

    generators = gather_object([random_state()])
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    is_main = trainer.is_world_process_zero()
    optimizer = made_whole(trainer.optimizer.state_dict(), keep=is_main)
    averages = made_whole(trainer.averages.state(), keep=is_main)
    if not is_main:
        return
    scaler = trainer.accelerator.scaler

    def write(aside: Path) -> None:
        flush(run / HISTORY)
        if kept_step is not None and not is_sealed(kept_model(run, kept_step)):
            seal(kept_model(run, kept_step))
        write_weights(trainer, weights, aside)
        state = {
            "optimizer": optimizer,
            "scheduler": trainer.lr_scheduler.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "random": generators,
            "pieces": trainer.micro_batches.pieces,
            "averages": averages,
        }
        write_state(aside, STATE, state)
        trainer.state.save_to_json(str(aside / TRAINER_STATE_NAME))

    facts = {"kept_step": kept_step, "continued": continued.model_dump_json() if continued else None}
    write_whole(_checkpoint(run, trainer.state.global_step), write, facts=facts)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Returns the state of all that `write_checkpoint` writes but the weights; raises RecordError if unfit."""
    from finetune.training.plain_state import read_state

    try:
        state: dict[str, Any] = read_state(path, STATE)
    except (OSError, ValueError, KeyError) as error:
        raise RecordError(f"{path}: can't be read ({error!r}); delete it, and the run goes on without it") from error
    return state


def remove_old(run: Path, *, keep: int, ranked_first: Collection[int]) -> None:
    """Leaves the newest `keep` checkpoints, and of the models those that they or the run as it is now may keep.

    `ranked_first`: the updates at which a model ranked first, in order.
    """
    steps = sorted(_steps(run, _CHECKPOINT))
    for step in steps[:-keep]:
        shutil.rmtree(_checkpoint(run, step), ignore_errors=True)
    ends = [*steps[-keep:], max(ranked_first, default=0)]
    needed = {max((first for first in ranked_first if first <= end), default=None) for end in ends}
    for step in set(_steps(run, _MODEL)) - needed:
        shutil.rmtree(kept_model(run, step), ignore_errors=True)


def _steps(run: Path, prefix: str) -> list[int]:
    names = [path.name.removeprefix(prefix) for path in (run / CHECKPOINTS).glob(f"{prefix}*")]
    return [int(name) for name in names if name.isdecimal()]


def write_identity(run: Path, identity: Mapping[str, Any]) -> None:
    """Writes beside the checkpoints of `run` what they are made from."""
    text = json.dumps(dict(identity))
    write_atomically(run / CHECKPOINTS / IDENTITY, lambda path: path.write_text(text, encoding="utf-8"))


def read_identity(run: Path) -> dict[str, Any]:
    """Returns what the checkpoints of `run` are made from, as it was written; raises RecordError."""
    path = run / CHECKPOINTS / IDENTITY
    try:
        identity: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(identity.get("data"), dict):
            raise ValueError("data is missing")
    except (OSError, ValueError, AttributeError) as error:
        raise RecordError(f"{path}: can't be read, so the run can't go on; pass --repeat to begin anew") from error
    return identity
