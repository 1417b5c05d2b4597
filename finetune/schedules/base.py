"""What every schedule is, and the table of schedules by name.

A schedule gives factor(t), which multiplies each parameter group's peak rate, from t, the number of updates already
made: update number t, for t = 0 … T−1, is made at peak · factor(t). With W the warmup and T the run, in updates,
τ = t − W, and p = τ/(T − W) the progress of the decay,

    factor(t) = s + (1 − s)·w(t/W)   for t < W, so at s, 0 unless given, at the first update, as in transformers
                decay(τ)             for W ≤ t ≤ T, mostly from 1 at t = W to the floor m at t = T

Before 0 and after T the factor stays as it is there. An inclusive schedule warms up at (t + 1)/(W + 1) and has
p = τ/(T − 1 − W), so that its first update is above s and its last, t = T − 1, exactly at the end of the decay.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any, ClassVar, Self, TypeVar, cast

from finetune.errors import SettingError, SettingErrors, did_you_mean
from finetune.schedules import settings
from finetune.schedules.compose import Curve, Factor, Held, Span, Way, in_sequence, progress
from finetune.schedules.durations import DurationLike, Run, parse_duration
from finetune.schedules.elementwise import Numbers, is_number
from finetune.schedules.foreign import check_factor
from finetune.schedules.settings import setting
from finetune.schedules.shapes import EXPONENTIAL, SHAPE_NAMES

SCHEDULES: dict[str, type[Schedule]] = {}
"""The schedules by name; `register_schedule` adds to it."""

TELLING = {"phases": "phases", "of": "product", "points": "piecewise"}
"""The settings that say which schedule it is."""

ELSEWHERE: dict[str, str] = {
    "warmup_ratio": 'warmup: "10%"',
    "warmup_steps": "warmup: 100",
    "num_warmup_steps": "warmup: 100",
    "warmup_t": "warmup",
    "warmup_type": "warmup_shape",
    "warmup_lr_init": "warmup_start, a fraction of the peak",
    "num_training_steps": "nothing: the run's own length",
    "T_max": "nothing: the run's own length",
    "t_initial": "first of cosine_restarts; else the run's own length",
    "min_lr": "floor_rate",
    "lr_min": "floor_rate",
    "eta_min": "floor_rate",
    "lr_end": "floor_rate",
    "base_lr": "floor_rate",
    "min_lr_rate": "floor",
    "min_lr_ratio": "floor",
    "end_factor": "floor",
    "num_cycles": "waves of cosine, or cycles of cosine_restarts",
    "T_0": "first",
    "T_mult": "growth",
    "cycle_mul": "growth",
    "cycle_decay": "decay",
    "num_decay_steps": "cooldown",
    "decay_type": "shape",
    "step_size": "every",
    "step_size_up": "up",
    "step_size_down": "down",
    "decay_rate": "gamma",
    "decay_t": "every",
    "pct_start": 'warmup: "30%"',
    "div_factor": "warmup_start: 0.04, its inverse",
    "final_div_factor": "floor: 4e-6, the inverse of it and div_factor",
    "base_momentum": "momentum: [0.85, 0.95]",
    "max_momentum": "momentum: [0.85, 0.95]",
    "factor": "gamma",
    "cooldown": "rest",
}
"""Settings of transformers', torch's and timm's schedulers, and what they are called here."""

SHAPE_ALIASES = {"1-sqrt": "sqrt", "sin": "cosine", "exp": "exponential", "constant": "warmup_start: 1"}


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A learning-rate schedule: settings that are checked when it is made, and `resolve`.

    A subclass gives `name`, `formula` (in τ, p, m, W and T, as above), `source` (the paper it comes from, or "") and
    `_factor`. Multiplying two schedules gives the schedule of their product.
    """

    name: ClassVar[str]
    formula: ClassVar[str]
    source: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list):
                object.__setattr__(self, field.name, _hashable(value))
        problems = [*settings.problems_of(self)]
        if not problems:
            problems = [*self._conflicts()]
        if problems:
            raise problems[0] if len(problems) == 1 else SettingErrors(problems)

    def resolve(
        self,
        *,
        total_steps: int,
        updates_per_epoch: int | None = None,
        samples_per_update: Fraction | int | None = None,
        tokens_per_update: Fraction | int | None = None,
        peak: float | None = None,
    ) -> Factor:
        """Returns factor(t) over a run of `total_steps` updates: pure, in closed form, and picklable.

        The other lengths are needed only where a duration counts epochs, samples or tokens, and `peak`, the rate at
        factor 1, only where a floor is an absolute rate. Raises SettingError where the schedule doesn't fit the run.
        """
        return self.over(
            Run(
                total_steps=total_steps,
                updates_per_epoch=updates_per_epoch,
                samples_per_update=samples_per_update,
                tokens_per_update=tokens_per_update,
            ),
            peak=peak,
        )

    def over(self, run: Run, *, peak: float | None = None) -> Factor:
        """As `resolve`, with the run's lengths in one."""
        if run.total_steps < 1:
            raise SettingError("total_steps", f"{run.total_steps} updates are no run: give at least 1")
        factor = self._factor(run, peak)
        if not type(self).__module__.startswith("finetune."):
            check_factor(factor, run.total_steps)
        return factor

    def resolve_momentum(self, run: Run) -> Factor | None:
        """Returns the momentum at each update, for a schedule that sets it; None for all others."""
        return None

    def rescaled(self, by: Fraction) -> Self:
        """Returns the schedule of a run `by` times as long; but for rounding its factor at t·by is this one's at t.

        Shares of the run stay, other durations are rescaled, with updates rounded up. A schedule with settings that
        mean something else per update extends this. Raises SettingError where less than one update is left.
        """
        own = {each.name: settings.rescaled(each, getattr(self, each.name), by) for each in dataclasses.fields(self)}
        return dataclasses.replace(self, **own)

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings as plain values, which `make_schedule(**settings)` reads back.

        Those left open, and the rarer ones at their defaults, are left out.
        """
        plain: dict[str, Any] = {"name": self.name}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value != field.default or not (value is None or field.metadata.get("quiet")):
                plain[field.name] = _plain(value)
        return plain

    def __mul__(self, other: Schedule) -> Schedule:
        return make_schedule("product", of=(self, other))

    def _conflicts(self) -> list[SettingError]:
        """Returns what is wrong with settings that are right one by one."""
        return []

    def _factor(self, run: Run, peak: float | None) -> Factor:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Warmed(Schedule):
    """A schedule that climbs to its peak and then decays; a subclass gives `_decay`."""

    warmup: DurationLike = setting(0, settings.duration, "W, how long the rate climbs to the peak")
    warmup_shape: str = setting("linear", settings.one_of(SHAPE_NAMES, SHAPE_ALIASES), "w, how it climbs", quiet=True)
    warmup_start: float = setting(0.0, settings.fraction, "s, the fraction of the peak it climbs from", quiet=True)
    floor: float = setting(0.0, settings.fraction, "m, the fraction of the peak that the decay doesn't go below")
    floor_rate: float | None = setting(
        None, settings.optional(settings.number(0)), "the floor as an absolute rate instead", quiet=True
    )
    inclusive: bool = setting(
        False,  # noqa: FBT003
        settings.flag,
        "the first update above s, the last exactly at the end of the decay",
        quiet=True,
    )

    def _conflicts(self) -> list[SettingError]:
        problems = []
        if self.floor_rate is not None and self.floor != type(self).__dataclass_fields__["floor"].default:
            problems.append(
                SettingError("floor_rate", f"{self.floor_rate} and floor {self.floor} both set the floor: give one")
            )
        if self.warmup_shape == EXPONENTIAL and self.warmup_start == 0:
            problems.append(
                SettingError("warmup_start", "0 can't be left exponentially: give a fraction above 0, such as 0.01")
            )
        return problems

    def _factor(self, run: Run, peak: float | None) -> Factor:
        warmup_steps = parse_duration(self.warmup, field="warmup").steps(run)
        if warmup_steps > run.total_steps:
            raise SettingError(
                "warmup",
                f"{warmup_steps} updates are more than the run's {run.total_steps}: "
                "shorten the warmup, or train longer",
            )
        span = Span(run=run, warmup_steps=warmup_steps, inclusive=self.inclusive, floor=self._floor_fraction(peak))
        ahead = int(self.inclusive)
        warmup = Way(self.warmup_start, 1.0, warmup_steps + ahead, self.warmup_shape, ahead)
        return Held(in_sequence([(warmup_steps, warmup), (0, self._decay(span))]), run.total_steps - ahead)

    def _floor_fraction(self, peak: float | None) -> float:
        if self.floor_rate is None:
            return self.floor
        if peak is None:
            raise SettingError("floor_rate", f"{self.floor_rate} is an absolute rate: pass peak, or give floor")
        if self.floor_rate > peak:
            raise SettingError("floor_rate", f"{self.floor_rate} is above the peak, {peak:g}: lower it")
        return self.floor_rate / peak if peak else 0.0

    def _decay(self, span: Span) -> Curve:
        """Returns the factor after the warmup, as a function of the updates made since its end."""
        raise NotImplementedError


@dataclass(frozen=True)
class Decay:
    """m + (1 − m)·fall(p) over `steps` updates, where `fall` goes from 1 at p = 0 to 0 at p = 1."""

    fall: Callable[..., Numbers]
    steps: int
    floor: float

    def __call__(self, step: Numbers) -> Numbers:
        return self.floor + (1.0 - self.floor) * self.fall(progress(step, self.steps))


def steps_of(value: DurationLike, field: str, run: Run) -> int:
    """Returns a setting's duration in updates."""
    return parse_duration(value, field=field).steps(run)


def make_schedule(name: str, **own: Any) -> Schedule:
    """Returns the schedule called `name`; raises SettingError, with the choices, for an unknown name or setting."""
    if not isinstance(name, str) or name not in SCHEDULES:
        shown = f'"{name}"' if isinstance(name, str) else repr(name)
        raise SettingError("name", f"{shown} is not one of {', '.join(SCHEDULES)}{did_you_mean(str(name), SCHEDULES)}")
    schedule = SCHEDULES[name]
    known = [field.name for field in dataclasses.fields(schedule)]
    needed = [field.name for field in dataclasses.fields(schedule) if field.default is dataclasses.MISSING]
    problems = [SettingError(key, _unknown(key, name, known)) for key in own if key not in known]
    problems += [SettingError(key, "required, and missing") for key in needed if key not in own]
    if problems:
        raise problems[0] if len(problems) == 1 else SettingErrors(problems)
    return schedule(**own)


def _unknown(key: str, name: str, known: list[str]) -> str:
    here = ELSEWHERE.get(key, "")
    if here.startswith("nothing") or not {*known}.isdisjoint(re.findall(r"\w+", here)):
        return f"unknown key; here it is {here}"
    return f"unknown key{did_you_mean(key, ['name', *known]) or f'; {name} has ' + ', '.join(known)}"


def as_schedule(value: Any, *, field: str = "schedule") -> Schedule:
    """Returns the schedule that `value` is, names (such as "cosine"), or describes as a mapping of settings.

    A mapping with `phases`, `of` or `points` needs no name. Raises SettingError, under `field`, for what is none of
    these.
    """
    if isinstance(value, Schedule):
        return value
    if isinstance(value, str):
        return make_schedule(value)
    if isinstance(value, Mapping):
        implied = [name for key, name in TELLING.items() if key in value]
        return make_schedule(**{"name": implied[0] if implied else None, **value})
    raise SettingError(field, f"{value!r} is not a schedule: give a name or a block of settings")


def schedule_for(main: Schedule, own: Schedule | str | Mapping[str, Any]) -> Schedule:
    """Returns a group's own schedule; a mapping that names none gives settings in place of the main schedule's."""
    if isinstance(own, Mapping) and not {"name", *TELLING} & own.keys():
        return make_schedule(**{**main.to_dict(), **own})
    return as_schedule(own)


Registered = TypeVar("Registered", bound="type[Schedule] | Callable[..., float]")


def register_schedule(name: str) -> Callable[[Registered], Registered]:
    """Makes a schedule available by `name`: in recipes, in `make_schedule` and on the command line.

    Decorates either a frozen dataclass that extends Schedule, or a function fall(p, *, …) that goes from 1 at p = 0 to
    0 at p = 1; the function becomes the decay of a schedule with warmup and floor, whose own settings are the
    function's keyword-only parameters, each with a default. Raises SettingError for a name that is taken, or that can't
    be part of the name of a run's directory.
    """
    if not re.fullmatch(r"\w[\w.+-]{0,49}", name):
        raise SettingError("register_schedule", f"{name!r} must be up to 50 letters, digits, and . _ + -")

    def register(what: Registered) -> Registered:
        kind: type[Schedule] = what if isinstance(what, type) else _from_function(name, what)
        if not issubclass(kind, Schedule):
            raise SettingError("register_schedule", f"{kind!r} must extend Schedule, or be a function of the progress")
        taken = SCHEDULES.get(name)
        if taken is not None and (taken.__module__, taken.__qualname__) != (kind.__module__, kind.__qualname__):
            raise SettingError("register_schedule", f'"{name}" is taken by {taken.__qualname__}: choose another')
        kind.name = name
        SCHEDULES[name] = kind
        return what  # the function stays a function

    return register


def _from_function(name: str, fall: Callable[..., float]) -> type[Schedule]:
    parameters = list(inspect.signature(fall).parameters.values())[1:]
    for parameter in parameters:
        if parameter.kind is not parameter.KEYWORD_ONLY or parameter.default is parameter.empty:
            raise SettingError("register_schedule", f"{name}: {parameter.name} must be keyword-only and have a default")

    def decay(self: Warmed, span: Span) -> Curve:
        own = {parameter.name: getattr(self, parameter.name) for parameter in parameters}
        return Decay(partial(_one_by_one, function=partial(fall, **own)), span.decay_steps, span.floor)

    def again(self: Warmed) -> tuple[Any, ...]:
        return _of_name, (name, {field.name: getattr(self, field.name) for field in dataclasses.fields(self)})

    kind = dataclasses.make_dataclass(
        fall.__qualname__,
        [(item.name, Any, setting(item.default, settings.anything, "")) for item in parameters],
        bases=(Warmed,),
        namespace={
            "_decay": decay,
            "formula": f"m + (1 − m)·{fall.__name__}(p)",
            "__doc__": fall.__doc__,
            "__reduce__": again,  # as pickle would look for the class where the function is
        },
        frozen=True,
        kw_only=True,
    )
    kind.__module__ = fall.__module__
    return kind


def _of_name(name: str, settings: Mapping[str, Any]) -> Schedule:
    return SCHEDULES[name](**settings)


def _one_by_one(value: Numbers, function: Callable[[float], float]) -> Numbers:
    if is_number(value):
        return function(value)
    import numpy as np

    return np.array([function(float(item)) for item in value.ravel()]).reshape(value.shape)


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return cast("Schedule", value).to_dict()
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value
