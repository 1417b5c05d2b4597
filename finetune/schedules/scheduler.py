"""A schedule as a torch learning-rate scheduler, for Trainer or any training loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.optim.lr_scheduler import LRScheduler

from finetune.schedules.catalog import Schedule, make_schedule

if TYPE_CHECKING:
    from finetune.schedules.compose import Factor


class ScheduledLR(LRScheduler):
    """Sets each parameter group's rate to its own peak times factor(`last_epoch`), the number of steps taken.

    A group's peak is its `initial_lr`, or its `lr` where no scheduler has set that before; a group added later joins
    at the next `step`, with the rate it has then as its peak. The rate is computed afresh at every step, so nothing
    drifts, and a rate that is a tensor is filled in place.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, factor: Factor) -> None:
        self.factor = factor
        super().__init__(optimizer)

    def step(self, epoch: int | None = None) -> None:
        """Goes on by one step, or to position `epoch`, and sets the rates that hold there."""
        self._go_to(self.last_epoch + 1 if epoch is None else epoch)

    def get_lr(self) -> list[float | torch.Tensor]:
        """Returns each group's rate at the present position, as plain numbers."""
        factor = self.factor(self.last_epoch)
        return [peak * factor for peak in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """Returns the position alone: all else follows from the schedule and the peaks."""
        return {"last_epoch": self.last_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the position from `state_dict` and sets the rates that today's schedule and peaks give there.

        Load the optimizer's own state first: it brings back the rates and peaks that it was saved with.
        """
        for group, peak in zip(self.optimizer.param_groups, self.base_lrs, strict=False):
            group["initial_lr"] = peak
        self._go_to(int(state_dict["last_epoch"]))

    def _go_to(self, position: int) -> None:
        self.last_epoch = position
        groups = self.optimizer.param_groups
        joining = groups[len(self.base_lrs) :]
        self.base_lrs = [float(peak) for peak in self.base_lrs]
        self.base_lrs += [float(group.setdefault("initial_lr", float(group["lr"]))) for group in joining]
        self._last_lr = self.get_lr()
        for group, rate in zip(groups, self._last_lr, strict=True):
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate


def make_scheduler(
    optimizer: torch.optim.Optimizer,
    schedule: Schedule | str,
    *,
    total_steps: int,
    updates_per_epoch: int | None = None,
) -> ScheduledLR:
    """Returns a torch scheduler that follows `schedule`, or the one of that name, over `total_steps` steps.

    Call its `step()` once after each update; or once an epoch, with `total_steps` counted in epochs too.
    `updates_per_epoch` is needed only where one of the schedule's durations counts epochs. Raises SettingError as
    `Schedule.resolve` and `make_schedule` do.
    """
    if isinstance(schedule, str):
        schedule = make_schedule(schedule)
    return ScheduledLR(optimizer, schedule.resolve(total_steps=total_steps, updates_per_epoch=updates_per_epoch))
