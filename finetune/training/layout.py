"""How a run is laid out over processes, accumulation and updates."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from finetune.errors import DeviceError, counted, settings_within
from finetune.recipe import Recipe
from finetune.schedules import Run, parse_duration

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Layout:
    """One global batch over `processes`, each taking `accumulation` micro-batches of at most `micro_batch_size`."""

    processes: int
    rank: int
    device: torch.device
    accumulation: int
    micro_batch_size: int

    @property
    def is_main(self) -> bool:
        """Whether this is the process that speaks and writes."""
        return self.rank == 0


def lay_out(*, batch_size: int, largest_micro_batch: int | None) -> Layout:
    """Returns the layout of a global batch over the processes that were launched.

    Accumulates as few micro-batches as `largest_micro_batch` examples per process and step allow. Raises DeviceError
    where a batch has too few examples for every process to have one in every micro-batch.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if batch_size < processes:
        raise DeviceError(
            f"training.batch_size: {batch_size} can't be split over {processes} processes; it counts the examples of "
            f"one update over all of them, so set it to {processes} or more, or launch fewer"
        )
    accumulation, micro_batch_size = share_out(batch_size, processes=processes, largest=largest_micro_batch)
    if accumulation * processes > batch_size:
        raise DeviceError(
            f"training.micro_batch_size: {largest_micro_batch} cuts a batch of {batch_size} on {processes} processes "
            f"into {accumulation * processes} parts, some of them empty; raise it, or batch_size"
        )
    return Layout(
        processes=processes,
        rank=int(os.environ.get("RANK", "0")),
        device=device_of_this_process(),
        accumulation=accumulation,
        micro_batch_size=micro_batch_size,
    )


def share_out(batch_size: int, *, processes: int, largest: int | None) -> tuple[int, int]:
    """Returns how many micro-batches each process takes of a batch, and how many examples a micro-batch has at most.

    They are as few as `largest` examples at a time allow.
    """
    share = -(-batch_size // processes)
    accumulation = 1 if largest is None else -(-share // largest)
    return accumulation, -(-batch_size // (processes * accumulation))


def device_of_this_process() -> torch.device:
    """Returns the GPU of this process, if there is one and ACCELERATE_USE_CPU doesn't forbid it; else the CPU.

    Raises DeviceError where more processes were launched than there are GPUs.
    """
    import torch
    from accelerate.utils import parse_flag_from_env

    if not parse_flag_from_env("ACCELERATE_USE_CPU"):
        if torch.cuda.is_available():
            return _gpu(int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count())
        if torch.backends.mps.is_available():
            return torch.device("mps")
    return torch.device("cpu")


def _gpu(number: int, count: int) -> torch.device:
    """Returns the GPU of the process of this number on its machine; raises DeviceError where there are fewer."""
    import torch

    if number >= count:
        raise DeviceError(
            f"{number + 1} processes or more were launched on a machine where {counted(count, 'GPU')} can be "
            f"seen, and each needs one of its own: launch {count}, or set ACCELERATE_USE_CPU=true to use none"
        )
    return torch.device("cuda", number)


def layout_of(recipe: Recipe) -> Layout:
    """Returns the layout of `recipe` over the processes that were launched; raises DeviceError."""
    return lay_out(batch_size=recipe.training.batch_size, largest_micro_batch=recipe.training.micro_batch_size)


@dataclass(frozen=True)
class Horizon:
    """A run in updates. `evaluate_every`, `save_every`: None where only at the end, or never."""

    total_steps: int
    updates_per_epoch: int
    run: Run
    evaluate_every: int | None
    save_every: int | None


def plan_horizon(recipe: Recipe, *, updates_per_epoch: int, samples: int, tokens: int) -> Horizon:
    """Turns the recipe's durations into updates, with `samples` and `tokens` in an epoch.

    Raises SettingError where the schedule doesn't fit the run.
    """
    lengths: dict[str, Any] = {
        "updates_per_epoch": updates_per_epoch,
        "samples_per_update": Fraction(samples, updates_per_epoch),
        "tokens_per_update": Fraction(tokens, updates_per_epoch),
    }
    total = parse_duration(recipe.training.duration, field="training.duration").run_steps(**lengths)
    run = Run(total_steps=total, **lengths)

    def every(value: int | str | None, field: str) -> int | None:
        if value is None:
            return None
        duration = parse_duration(value, field=field)
        return max(1, duration.steps(run))

    with settings_within("schedule"):
        recipe.schedule.over(run, peak=recipe.optimizer.learning_rate)
    for name, group in recipe.groups.items():
        with settings_within(f"groups.{name}.schedule"):
            recipe.schedule_of(name).over(run, peak=group.learning_rate or recipe.optimizer.learning_rate)
    return Horizon(
        total_steps=total,
        updates_per_epoch=updates_per_epoch,
        run=run,
        evaluate_every=every(recipe.evaluation.every, "evaluation.every"),
        save_every=every(recipe.checkpoints.every, "checkpoints.every"),
    )
