"""Schedules in any transformers Trainer: `class MyTrainer(ScheduleMixin, Trainer)`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from finetune.errors import SettingError
from finetune.schedules.base import as_schedule
from finetune.schedules.durations import Run
from finetune.schedules.scheduler import ScheduledLR, ScheduleLike, make_scheduler

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from finetune.schedules.continuation import ChangePolicy

_NEUTRAL_ARGUMENTS = {"lr_scheduler_type": "linear", "lr_scheduler_kwargs": None, "warmup_steps": 0}


class ScheduleMixin:
    """Makes a Trainer follow `schedule`: a Schedule, the name of one, or its settings.

    Put it before Trainer among the bases. All else is Trainer's, and TrainingArguments.learning_rate, or the optimizer
    passed, gives the peak. `groups`, `starts` and `on_change` are `make_scheduler`'s. A plateau schedule watches
    TrainingArguments.metric_for_best_model, or else the evaluation loss. Raises SettingError where the rate is also
    described in TrainingArguments (by `lr_scheduler_type`, `lr_scheduler_kwargs` or `warmup_steps`) or a scheduler is
    passed in `optimizers`.
    """

    args: Any
    optimizer: Any
    lr_scheduler: Any

    def __init__(
        self,
        *args: Any,
        schedule: ScheduleLike,
        groups: Mapping[str, ScheduleLike] | None = None,
        starts: Mapping[str, int] | None = None,
        on_change: ChangePolicy = "refuse",
        **kwargs: Any,
    ) -> None:
        self.schedule = as_schedule(schedule)
        self._groups = groups
        self._starts = starts
        self._on_change: ChangePolicy = on_change
        self._run: Run | None = None
        super().__init__(*args, **kwargs)
        if self.lr_scheduler is not None:
            raise SettingError(
                "optimizers", "a scheduler is passed beside schedule: pass optimizers=(optimizer, None), or None"
            )
        self._refuse_other_rates()

    def set_initial_training_values(self, args: Any, dataloader: Any, *rest: Any) -> tuple[Any, ...]:
        """Trainer's own; keeps the lengths of an epoch and of an update, which Trainer computes only here."""
        values: tuple[Any, ...] = cast("Any", super()).set_initial_training_values(args, dataloader, *rest)
        self._run = Run(
            total_steps=values[6],
            updates_per_epoch=values[1] if _has_length(dataloader) else None,
            samples_per_update=values[4],
        )
        return values

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> ScheduledLR:
        """Sets `lr_scheduler`, once in each `train()`, over `optimizer`, or else Trainer's own, and returns it."""
        if self.lr_scheduler is None:
            self._refuse_other_rates()
            run = self.describe_run(num_training_steps)
            self.lr_scheduler = make_scheduler(
                self.optimizer if optimizer is None else optimizer,
                self.schedule,
                total_steps=num_training_steps,
                updates_per_epoch=run.updates_per_epoch,
                samples_per_update=run.samples_per_update,
                tokens_per_update=run.tokens_per_update,
                groups=self._groups,
                starts=self._starts,
                on_change=self._on_change,
            )
            # Without it, a second train() would go on with the spent scheduler.
            self._created_lr_scheduler = True
        return cast("ScheduledLR", self.lr_scheduler)

    def _refuse_other_rates(self) -> None:
        for name, neutral in _NEUTRAL_ARGUMENTS.items():
            value = getattr(self.args, name)
            if value != neutral:
                raise SettingError(
                    name,
                    f"{getattr(value, 'value', value)} in TrainingArguments would have no effect: "
                    f"set it to {neutral}, its default in transformers, and describe the rate in schedule",
                )

    def describe_run(self, total_steps: int) -> Run:
        """Returns the lengths that durations count in; override it to tell how many tokens an update has."""
        return Run(total_steps=total_steps) if self._run is None else replace(self._run, total_steps=total_steps)

    def _evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        metrics: dict[str, float] = cast("Any", super())._evaluate(*args, **kwargs)
        self.tell_scheduler(metrics)
        return metrics

    def tell_scheduler(self, metrics: Mapping[str, float]) -> None:
        """Tells the scheduler of an evaluation in the middle of training, for a schedule that is driven by a metric."""
        name = self.args.metric_for_best_model or "loss"
        value = metrics.get(name, metrics.get(f"eval_{name}"))
        if value is not None:
            greater = self.args.greater_is_better
            self.lr_scheduler.observe(
                value, greater_is_better=not name.endswith("loss") if greater is None else greater
            )


def _has_length(dataloader: Any) -> bool:
    """Whether the data's length is known; of a stream, Trainer says that an epoch is the whole run."""
    try:
        len(dataloader)
    except (TypeError, NotImplementedError):
        return False
    return True
