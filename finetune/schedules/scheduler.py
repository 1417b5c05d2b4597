"""A schedule as a torch learning-rate scheduler, for Trainer or any training loop."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from fractions import Fraction
from typing import Any, get_args

import torch
from torch.optim.lr_scheduler import LRScheduler

from finetune.errors import SettingError, did_you_mean
from finetune.schedules.base import Schedule, as_schedule, schedule_for
from finetune.schedules.continuation import (
    ChangePolicy,
    Plan,
    cooled_down,
    factor_for,
    go_on_from,
    momentum_for,
    observe,
    plan_of,
    run_of,
    starts_of,
)
from finetune.schedules.durations import DurationLike, Run, parse_duration
from finetune.schedules.settings import fraction, interval, one_of
from finetune.schedules.shapes import SHAPES

ScheduleLike = Schedule | str | Mapping[str, Any]
"""A schedule, its name, or its settings as plain values."""


class ScheduledLR(LRScheduler):
    """Sets each parameter group's rate to its own peak times its schedule's factor(`last_epoch`), the steps taken.

    A group's peak is its `initial_lr`, or its `lr` where no scheduler has set that before; a group added later joins
    at the next `step`, with the rate it has then as its peak. The rate is computed afresh at every step, so nothing
    drifts, and a rate that is a tensor is filled in place. Made by `make_scheduler`.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        run: Run,
        *,
        groups: Mapping[str, Schedule],
        starts: Mapping[str, int],
        on_change: ChangePolicy,
    ) -> None:
        self.on_change = on_change
        self._plan: Plan = plan_of(schedule, run, groups, starts=starts, peaks=[])
        self._joined_groups = 0
        super().__init__(optimizer)

    @property
    def total_steps(self) -> int:
        """The length of the run in steps, as it is now: a cooldown on request changes it."""
        return int(self._plan["run"]["total_steps"])

    @property
    def starts(self) -> dict[str, int]:
        """The update before which a group's rate is 0, by the names of the groups that have one."""
        return self._starts

    def step(self, epoch: int | None = None) -> None:
        """Goes on by one step, or to position `epoch`, and sets the rates that hold there."""
        self._go_to(self.last_epoch + 1 if epoch is None else epoch)

    def get_lr(self) -> list[float | torch.Tensor]:
        """Returns each group's rate at the present position, as plain numbers."""
        if len(self._factors) == 1:
            factor = self._factors[0](self.last_epoch)
            return [peak * factor for peak in self.base_lrs]
        values = [factor(self.last_epoch) for factor in self._factors]
        return [peak * values[which] for peak, which in zip(self.base_lrs, self._which, strict=True)]

    def observe(self, value: float, *, greater_is_better: bool = False) -> None:
        """Tells a plateau schedule what an evaluation found, a loss unless `greater_is_better`; others take no notice.

        The rate falls at once where the evaluations have stopped improving. Every process must be told the same.
        """
        if observe(self._plan, float(value), at=self.last_epoch, greater_is_better=greater_is_better):
            self._resolve()
            self._go_to(self.last_epoch)

    @property
    def cooldown(self) -> dict[str, Any] | None:
        """The cooldown that was started on request: after which update (`at`), its `shape` and `floor`; or None."""
        joined = self._plan["joined"]
        if joined is None or joined["how"] != "cooldown":
            return None
        return {key: joined[key] for key in ("at", "shape", "floor")}

    def steps_of(self, duration: DurationLike) -> int:
        """Returns a duration in steps of this run."""
        return parse_duration(duration, field="duration").steps(run_of(self._plan))

    def start_cooldown(self, duration: DurationLike, *, shape: str = "sqrt", floor: float = 0.0) -> int:
        """Leaves the schedule here and cools every group down to `floor` of its peak over `duration`, in `shape`.

        Returns the run's new length in steps. It is part of the state: a resumed run goes on cooling down. Raises
        SettingError for a floor outside [0, 1], an unknown shape, or no updates.
        """
        interval("duration", duration)
        one_of(tuple(SHAPES), {"1-sqrt": "sqrt"})("shape", shape)
        fraction("floor", floor)
        steps = self.steps_of(duration)
        self._plan = cooled_down(self._plan, at=self.last_epoch, steps=steps, shape=shape, floor=floor)
        self._resolve()
        return self.total_steps

    def state_dict(self) -> dict[str, Any]:
        """Returns the position and the plan: schedule, lengths and peaks, as plain values."""
        return {"last_epoch": self.last_epoch, "plan": deepcopy(self._plan)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the position from `state_dict` and sets the rates that the plan gives there.

        Where the schedule, the horizon or the peaks have changed since, `on_change` says what happens; "refuse" raises
        ResumeError with the differences. Load the optimizer's own state first: it brings back rates and peaks.
        """
        position = int(state_dict["last_epoch"])
        saved = deepcopy(state_dict.get("plan", self._plan))  # a checkpoint of another scheduler has none
        self._plan = go_on_from(saved, self._plan, at=position, policy=self.on_change)
        self.base_lrs = list(self._plan["peaks"])
        for group, peak in zip(self.optimizer.param_groups, self.base_lrs, strict=False):
            group["initial_lr"] = peak
        self._resolve()
        self._go_to(position)

    def _go_to(self, position: int) -> None:
        self.last_epoch = position
        groups = self.optimizer.param_groups
        if len(groups) != self._joined_groups:
            self._join()
        self._last_lr = rates = self.get_lr()
        for group, rate in zip(groups, rates, strict=True):
            if type(group["lr"]) is float:
                group["lr"] = rate
            else:
                _set_rate(group, rate)
        for index, momentum in self._momenta:
            _set_momentum(groups[index], momentum(position))

    def _join(self) -> None:
        """Takes the groups that are new as they are."""
        groups = self.optimizer.param_groups
        self.base_lrs = [float(peak) for peak in self.base_lrs[: len(groups)]]
        joining = groups[len(self.base_lrs) :]
        self.base_lrs += [float(group.setdefault("initial_lr", float(group["lr"]))) for group in joining]
        self._plan = {**self._plan, "peaks": list(self.base_lrs)}
        self._joined_groups = len(groups)
        self._resolve()

    def _resolve(self) -> None:
        """Works out the distinct factors, and which of them each group follows."""
        names = [_name(group, index) for index, group in enumerate(self.optimizer.param_groups)]
        self._starts = starts_of(self._plan)
        for name in [*self._plan["groups"], *self._starts]:
            if name not in names:
                raise SettingError("groups", f'no parameter group is called "{name}"{did_you_mean(name, names)}')
        factors = [factor_for(self._plan, name, peak) for name, peak in zip(names, self._plan["peaks"], strict=True)]
        self._factors = list(dict.fromkeys(factors))
        self._which = [self._factors.index(factor) for factor in factors]
        momenta = [(index, momentum_for(self._plan, name)) for index, name in enumerate(names)]
        self._momenta = [(index, momentum) for index, momentum in momenta if momentum is not None]
        for index, _ in self._momenta:
            _check_momentum(self.optimizer.param_groups[index])


def make_scheduler(
    optimizer: torch.optim.Optimizer,
    schedule: ScheduleLike,
    *,
    total_steps: int,
    updates_per_epoch: int | None = None,
    samples_per_update: Fraction | int | None = None,
    tokens_per_update: Fraction | int | None = None,
    groups: Mapping[str, ScheduleLike] | None = None,
    starts: Mapping[str, int] | None = None,
    on_change: ChangePolicy = "refuse",
) -> ScheduledLR:
    """Returns a torch scheduler that follows `schedule` over `total_steps` steps.

    Call its `step()` once after each update; or once an epoch, with `total_steps` counted in epochs too. The other
    lengths are needed only where a duration counts epochs, samples or tokens. `groups` gives parameter groups, by their
    `name` or else their index as text, a schedule of their own, or settings in place of the schedule's, such as
    {"head": {"floor": 0.1}}. `starts` gives groups the first update that they are trained in: before, their rate is 0,
    and from there on what it would be anyway. `on_change` says what a resumed run does where the schedule, the horizon
    or the peaks have changed: "refuse"; "keep" the old; "extend", the new as if it had been so from the start;
    "restart" the new over the updates left; "branch", a cooldown from where the old one was to the new horizon. Raises
    SettingError as `Schedule.resolve` and `make_schedule` do.
    """
    one_of(get_args(ChangePolicy))("on_change", on_change)
    main = as_schedule(schedule)
    run = Run(
        total_steps=total_steps,
        updates_per_epoch=updates_per_epoch,
        samples_per_update=samples_per_update,
        tokens_per_update=tokens_per_update,
    )
    own = {name: schedule_for(main, value) for name, value in (groups or {}).items()}
    return ScheduledLR(optimizer, main, run, groups=own, starts=starts or {}, on_change=on_change)


def _name(group: Mapping[str, Any], index: int) -> str:
    return str(group.get("name", index))


def _set_rate(group: dict[str, Any], rate: float | torch.Tensor) -> None:
    if isinstance(group["lr"], torch.Tensor):
        group["lr"].fill_(float(rate))
    else:
        group["lr"] = rate


def _check_momentum(group: Mapping[str, Any]) -> None:
    if "betas" not in group and "momentum" not in group:
        raise SettingError("momentum", "the optimizer has neither betas nor momentum to set: give momentum: null")


def _set_momentum(group: dict[str, Any], value: float) -> None:
    if "betas" in group:
        group["betas"] = (value, *group["betas"][1:])
    else:
        group["momentum"] = value
