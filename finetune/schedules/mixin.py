"""Schedules in any transformers Trainer: `class MyTrainer(ScheduleMixin, Trainer)`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from finetune.errors import SettingError
from finetune.schedules.catalog import Schedule, make_schedule
from finetune.schedules.scheduler import ScheduledLR, make_scheduler

if TYPE_CHECKING:
    import torch

_NEUTRAL_ARGUMENTS = {"lr_scheduler_type": "linear", "lr_scheduler_kwargs": None, "warmup_steps": 0}


class ScheduleMixin:
    """Makes a Trainer follow `schedule`, a Schedule or the name of one.

    Put it before Trainer among the bases. All else is Trainer's, and TrainingArguments.learning_rate, or the optimizer
    passed, gives the peak. Raises SettingError where the rate is also described in TrainingArguments (by
    `lr_scheduler_type`, `lr_scheduler_kwargs` or `warmup_steps`) or a scheduler is passed in `optimizers`.
    """

    args: Any
    optimizer: Any
    lr_scheduler: Any

    def __init__(self, *args: Any, schedule: Schedule | str, **kwargs: Any) -> None:
        self.schedule = make_schedule(schedule) if isinstance(schedule, str) else schedule
        self._updates_per_epoch: int | None = None
        super().__init__(*args, **kwargs)
        if self.lr_scheduler is not None:
            raise SettingError(
                "optimizers", "a scheduler is passed beside schedule: pass optimizers=(optimizer, None), or None"
            )
        for name, neutral in _NEUTRAL_ARGUMENTS.items():
            value = getattr(self.args, name)
            if value != neutral:
                raise SettingError(
                    name,
                    f"{getattr(value, 'value', value)} in TrainingArguments would have no effect: "
                    "leave it out, and describe the rate in schedule",
                )

    def set_initial_training_values(self, args: Any, dataloader: Any, *rest: Any) -> tuple[Any, ...]:
        """Trainer's own; keeps the number of updates in an epoch, which Trainer computes only here."""
        values: tuple[Any, ...] = cast("Any", super()).set_initial_training_values(args, dataloader, *rest)
        self._updates_per_epoch = values[1] if _has_length(dataloader) else None
        return values

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> ScheduledLR:
        """Sets `lr_scheduler`, once in each `train()`, over `optimizer`, or else Trainer's own, and returns it."""
        if self.lr_scheduler is None:
            self.lr_scheduler = make_scheduler(
                self.optimizer if optimizer is None else optimizer,
                self.schedule,
                total_steps=num_training_steps,
                updates_per_epoch=self._updates_per_epoch,
            )
            # Without it, a second train() would go on with the spent scheduler.
            self._created_lr_scheduler = True
        return cast("ScheduledLR", self.lr_scheduler)


def _has_length(dataloader: Any) -> bool:
    """Whether the data's length is known; of a stream, Trainer says that an epoch is the whole run."""
    try:
        len(dataloader)
    except (TypeError, NotImplementedError):
        return False
    return True
