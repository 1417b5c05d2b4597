"""Turns a finished run into its record and its predictions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune.evaluation.record import (
    PREDICTIONS,
    Continued,
    GroupRates,
    Identity,
    ModelIdentity,
    Results,
    RunRecord,
    ScheduleRecord,
    StoppedEarly,
    StudyPart,
    Timing,
    write_atomically,
)
from finetune.training.environment import describe_environment

if TYPE_CHECKING:
    import torch

    from finetune.recipe import Recipe
    from finetune.training.clock import TrainingClock
    from finetune.training.history import History
    from finetune.training.layout import Horizon
    from finetune.training.material import Material
    from finetune.training.trainer import ScheduledTrainer


@dataclass(frozen=True)
class Finished:
    """A run that has ended, for better or worse; `started` is an aware time, `examples` those in an epoch,
    `resumed_at` the updates made by an earlier process, `continued` the run it went on from under other settings,
    `stopped_early` where and why it ended before the update that was planned to be its last."""

    recipe: Recipe
    material: Material
    horizon: Horizon
    trainer: ScheduledTrainer
    history: History
    clock: TrainingClock
    started: datetime
    model: ModelIdentity
    examples: int
    batches: str
    resumed_at: int
    study: StudyPart | None
    continued: Continued | None
    stopped_early: StoppedEarly | None = None


def weights_fingerprint(model: torch.nn.Module) -> str:
    """Returns the SHA-256 of every tensor of `model`, by name, in the order of names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(memoryview(tensor.detach().cpu().contiguous().numpy()))
    return digest.hexdigest()


def build_record(run: Finished, results: Results | None) -> RunRecord:
    """Returns the record of `run`; without `results` it diverged."""
    recipe = run.recipe
    return RunRecord(
        status="finished" if results else "diverged",
        diverged_at_step=run.history.diverged_at_step,
        name=recipe.name,
        recipe=recipe.to_dict(),
        identity=Identity(
            data=dict(run.material.identities),
            classes=list(run.material.classes),
            model=run.model,
            batches=run.batches,
            seed=recipe.training.seed,
        ),
        schedule=ScheduleRecord(
            settings=recipe.schedule.to_dict(),
            total_steps=run.trainer.lr_scheduler.total_steps,
            cooldown=run.trainer.lr_scheduler.cooldown,
            updates_per_epoch=run.horizon.updates_per_epoch,
            groups=_groups(run),
        ),
        environment=describe_environment(run.trainer),
        timing=_timing(run),
        results=results,
        study=run.study,
        non_finite=run.history.non_finite,
        continued=run.continued,
        stopped_early=run.stopped_early,
    )


def _groups(run: Finished) -> list[GroupRates]:
    updates = run.history.updates
    return [
        GroupRates(
            name=group["name"],
            peak=float(group["initial_lr"]),
            weight_decay=group["weight_decay"],
            parameters=sum(parameter.numel() for parameter in group["params"]),
            rates=[row["rates"][group["name"]] for row in updates],
        )
        for group in run.trainer.optimizer.param_groups
    ]


def _timing(run: Finished) -> Timing:
    finished = datetime.now(UTC)
    updates = run.history.updates
    seconds = updates[-1]["seconds"] if updates else 0.0
    made = len(updates) - run.resumed_at
    epochs, rest = divmod(len(updates), run.horizon.updates_per_epoch)
    examples = epochs * run.examples + rest * run.recipe.training.batch_size
    return Timing(
        started=run.started.isoformat(timespec="seconds"),
        finished=finished.isoformat(timespec="seconds"),
        total_seconds=round((finished - run.started).total_seconds(), 3),
        train_seconds=seconds,
        evaluation_seconds=round(run.clock.paused_seconds, 4),
        samples_per_second=round(examples / seconds, 2) if seconds else 0.0,
        schedule_microseconds=round(run.clock.scheduling_seconds / made * 1e6, 3) if made else None,
    )


def write_predictions(
    run: Path, split: str, *, columns: Mapping[str, Any], scores: np.ndarray[Any, Any] | None
) -> None:
    """Writes a row per example of `split`, in its own order: its number, `columns`, and what it scored, if it did."""
    import pyarrow
    from pyarrow import parquet

    count = len(next(iter(columns.values())))
    scored = {} if scores is None else {"score": scores}
    table = pyarrow.table({"row": np.arange(count), **columns, **scored})
    write_atomically(run / PREDICTIONS / f"{split}.parquet", lambda path: parquet.write_table(table, path))
