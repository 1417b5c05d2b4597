"""Learning-rate schedules by name: one frozen settings class each, and the table of names.

A schedule gives factor(t), which multiplies each parameter group's peak rate, from t, the number of updates already
made: update number t, for t = 0 … T−1, is made at peak · factor(t). With W the warmup and T the run, in updates,

    factor(t) = t/W           for t < W, so 0 at the first update, as in transformers
                decay(t − W)  for W ≤ t ≤ T, from 1 at t = W

and p = (t − W)/(T − W) is the progress of the decay. Before 0 and after T the factor stays as it is there.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

from finetune.errors import SettingError, did_you_mean
from finetune.schedules import shapes
from finetune.schedules.compose import Factor, Span, progress, scaled, warmed_up
from finetune.schedules.durations import DurationLike, parse_duration


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """What every schedule has.

    `warmup`: how long the rate climbs linearly from 0 to the peak. `floor`: the fraction m of each group's peak, from 0
    to 1, that the decay never falls below. Durations keep the form they were written in.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid", "strict": True}

    name: str
    warmup: DurationLike = 0
    floor: float = 0.0

    def __post_init__(self) -> None:
        parse_duration(self.warmup, field="warmup")
        _check_fraction("floor", self.floor)

    def resolve(self, *, total_steps: int, updates_per_epoch: int | None = None) -> Factor:
        """Returns factor(t) over a run of `total_steps` updates: pure, in closed form, and picklable.

        `updates_per_epoch` is needed only where a duration counts epochs. Where the warmup takes the whole run, there
        is no decay. Raises SettingError for a run of no updates and for a warmup longer than the run.
        """
        if total_steps < 1:
            raise SettingError("total_steps", f"{total_steps} updates are no run: give at least 1")
        warmup_steps = parse_duration(self.warmup, field="warmup").steps(
            total_steps=total_steps, updates_per_epoch=updates_per_epoch
        )
        if warmup_steps > total_steps:
            raise SettingError(
                "warmup",
                f"{warmup_steps} updates are more than the run's {total_steps}: shorten the warmup, or train longer",
            )
        span = Span(total_steps=total_steps, warmup_steps=warmup_steps, updates_per_epoch=updates_per_epoch)
        return partial(warmed_up, decay=self._decay(span), span=span)

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings as plain values, without those left open; `make_schedule(**settings)` reads them."""
        return {key: value for key, value in dataclasses.asdict(self).items() if value is not None}

    def _decay(self, span: Span) -> Factor:
        """Returns the factor after the warmup, as a function of the updates made since its end."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Constant(Schedule):
    """1 after the warmup; a floor changes nothing."""

    name: Literal["constant"] = "constant"

    def _decay(self, span: Span) -> Factor:
        return _one


@dataclass(frozen=True, kw_only=True)
class Linear(Schedule):
    """m + (1 − m)(1 − p): a straight line from 1 to the floor m at t = T."""

    name: Literal["linear"] = "linear"

    def _decay(self, span: Span) -> Factor:
        return partial(scaled, shape=shapes.linear, decay_steps=span.decay_steps, floor=self.floor)


@dataclass(frozen=True, kw_only=True)
class Cosine(Schedule):
    """m + (1 − m)(1 + cos πp)/2: half a cosine wave from 1 to the floor m at t = T (arXiv 1608.03983)."""

    name: Literal["cosine"] = "cosine"

    def _decay(self, span: Span) -> Factor:
        return partial(scaled, shape=shapes.cosine, decay_steps=span.decay_steps, floor=self.floor)


@dataclass(frozen=True, kw_only=True)
class Step(Schedule):
    """max(m, γ^⌊(t − W)/s⌋): falls by `gamma` (γ) every s updates, counted from the end of the warmup.

    `every`: s, as a duration; a share is one of the whole run, warmup included.
    """

    name: Literal["step"] = "step"
    gamma: float = 0.1
    every: DurationLike = "30%"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_fraction("gamma", self.gamma, above_zero=True)
        _check_interval(self.every)

    def _decay(self, span: Span) -> Factor:
        return partial(_staircase, gamma=self.gamma, every_steps=_interval_steps(self.every, span), floor=self.floor)


@dataclass(frozen=True, kw_only=True)
class Exponential(Schedule):
    """max(m, f^p), or max(m, γ^((t − W)/s)): falls by the same ratio in every update.

    Either by `final` (f), the factor at t = T, which is 0.01 unless given; or by `gamma` (γ), the ratio over s updates,
    with s = `every`, a duration, 1 unless given. Raises SettingError where both are given, or `every` without `gamma`.
    """

    name: Literal["exponential"] = "exponential"
    final: float | None = None
    gamma: float | None = None
    every: DurationLike | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.final is not None:
            _check_fraction("final", self.final, above_zero=True)
        if self.gamma is not None:
            _check_fraction("gamma", self.gamma, above_zero=True)
        if self.final is not None and self.gamma is not None:
            raise SettingError("gamma", f"{self.gamma} and final {self.final} both set the decay: give one of them")
        if self.every is not None:
            _check_interval(self.every)
            if self.gamma is None:
                raise SettingError(
                    "every", f"{self.every} has no effect without gamma: give gamma too, or leave it out"
                )

    def _decay(self, span: Span) -> Factor:
        if self.gamma is not None:
            every_steps = 1 if self.every is None else _interval_steps(self.every, span)
            return partial(_geometric, ratio=self.gamma, over_steps=every_steps, floor=self.floor)
        final = 0.01 if self.final is None else self.final
        return partial(_geometric, ratio=final, over_steps=span.decay_steps, floor=self.floor)


def _one(step: int) -> float:
    return 1.0


def _staircase(step: int, *, gamma: float, every_steps: int, floor: float) -> float:
    return max(floor, float(gamma ** (step // every_steps)))


def _geometric(step: int, *, ratio: float, over_steps: int, floor: float) -> float:
    return max(floor, float(ratio ** progress(step, decay_steps=over_steps)))


def _check_fraction(field: str, value: float, *, above_zero: bool = False) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value <= 1 or (above_zero and value == 0):
        raise SettingError(field, f"{value!r} must be a number {'above 0, up to 1' if above_zero else 'from 0 to 1'}")


def _check_interval(every: DurationLike) -> None:
    if parse_duration(every, field="every").amount == 0:
        raise SettingError("every", f"{every} is no interval: give at least 1 update")


def _interval_steps(every: DurationLike, span: Span) -> int:
    return parse_duration(every, field="every").steps(
        total_steps=span.total_steps, updates_per_epoch=span.updates_per_epoch
    )


SCHEDULES: dict[str, type[Schedule]] = {
    "constant": Constant,
    "linear": Linear,
    "cosine": Cosine,
    "step": Step,
    "exponential": Exponential,
}


def make_schedule(name: str, **settings: Any) -> Schedule:
    """Returns the schedule called `name`; raises SettingError, with the choices, for an unknown name or setting."""
    if name not in SCHEDULES:
        raise SettingError("name", f'"{name}" is not one of {", ".join(SCHEDULES)}{did_you_mean(name, SCHEDULES)}')
    schedule = SCHEDULES[name]
    known = [field.name for field in dataclasses.fields(schedule) if field.name != "name"]
    for setting in settings:
        if setting not in known:
            raise SettingError(setting, f"unknown: {name} has {', '.join(known)}{did_you_mean(setting, known)}")
    return schedule(**settings)
