"""The schedules made of others, of points, or of what an evaluation found."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import pairwise
from typing import Any, Self

from finetune.errors import SettingError, settings_within
from finetune.schedules import compose, settings
from finetune.schedules.base import Schedule, Warmed, as_schedule, register_schedule
from finetune.schedules.compose import Curve, Factor, Held, Level, Scaled, Span, Way, in_sequence
from finetune.schedules.durations import DurationLike, Run, parse_duration, rescale_duration
from finetune.schedules.elementwise import Numbers, at_least, passed
from finetune.schedules.settings import setting


def _is_schedule(field: str, value: Any) -> None:
    as_schedule(value, field=field)


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One of a sequence: `schedule` as if over a run of `duration`, its peak at `peak` of the group's own."""

    schedule: Schedule = setting(None, _is_schedule, "what happens in the phase; all its shares are of the phase")
    duration: DurationLike | None = setting(
        None, settings.optional(settings.interval), "how long; one phase may leave it out and takes the rest"
    )
    peak: float = setting(1.0, settings.ratio, "the fraction of the group's peak that is the phase's")

    def __post_init__(self) -> None:
        with settings_within("schedule"):
            object.__setattr__(self, "schedule", as_schedule(self.schedule, field=""))
        problems = settings.problems_of(self)
        if problems:
            raise problems[0]

    def to_dict(self) -> dict[str, Any]:
        """Returns the phase as plain values."""
        duration = {} if self.duration is None else {"duration": self.duration}
        return {"schedule": self.schedule.to_dict(), **duration, "peak": self.peak}


@register_schedule("phases")
@dataclass(frozen=True, kw_only=True)
class Phases(Schedule):
    """Schedules one after another, each with its own duration."""

    formula = "schedule i, as over a run of its duration, from the end of schedule i − 1 on"
    phases: tuple[Phase, ...] = setting(
        (), settings.list_of(lambda field, value: None), "schedule, duration, peak each"
    )

    def __post_init__(self) -> None:
        if isinstance(self.phases, list | tuple):
            object.__setattr__(self, "phases", tuple(_phase(item, at) for at, item in enumerate(self.phases)))
        super().__post_init__()

    def _conflicts(self) -> list[SettingError]:
        parts = list(_unfit({f"phases.{at}.schedule": phase.schedule for at, phase in enumerate(self.phases)}))
        open_ended = [str(at) for at, phase in enumerate(self.phases) if phase.duration is None]
        if len(open_ended) > 1:
            parts.append(
                SettingError(
                    f"phases.{open_ended[1]}.duration",
                    f"missing, as in phase {open_ended[0]}: only one phase can take the rest of the run",
                )
            )
        return parts

    def rescaled(self, by: Fraction) -> Self:
        """Returns the schedule of a run `by` times as long.

        Of durations in updates the sums are rounded up, rather than each, so that they still make a whole run.
        """
        phases, before = [], Fraction(0)
        for at, phase in enumerate(self.phases):
            with settings_within(f"phases.{at}"):
                duration, length = phase.duration, Fraction(0)
                if duration is not None:
                    given = parse_duration(duration, field="duration")
                    duration = rescale_duration(duration, by, field="duration")
                    length = given.amount if given.unit == "updates" else length
                if length:
                    duration = math.ceil((before + length) * by) - math.ceil(before * by)
                with settings_within("schedule"):
                    phases.append(replace(phase, schedule=phase.schedule.rescaled(by), duration=duration))
                before += length
        return replace(self, phases=tuple(phases))

    def _factor(self, run: Run, peak: float | None) -> Factor:
        parts: list[tuple[int, Curve]] = []
        for at, (phase, steps) in enumerate(zip(self.phases, self._lengths(run), strict=True)):
            if steps == 0:
                continue
            own = replace(run, total_steps=steps)
            with settings_within(f"phases.{at}.schedule"):
                factor = phase.schedule.over(own, peak=None if peak is None else peak * phase.peak)
            parts.append((steps, factor if phase.peak == 1 else Scaled(factor, phase.peak)))
        return Held(in_sequence(parts), run.total_steps)

    def _lengths(self, run: Run) -> list[int]:
        """Returns the phases' lengths in updates; boundaries are rounded up, so that shares of 100% make the run."""
        exact = [
            None if phase.duration is None else parse_duration(phase.duration, field=f"phases.{at}.duration").exact(run)
            for at, phase in enumerate(self.phases)
        ]
        given = sum((length for length in exact if length is not None), Fraction(0))
        if given > run.total_steps or (None not in exact and math.ceil(given) < run.total_steps):
            raise SettingError(
                "phases",
                f"they take {float(given):g} updates of the run's {run.total_steps}: "
                "make them fit, or leave the duration of one out",
            )
        ends, end = [0], Fraction(0)
        for length in exact:
            end += run.total_steps - given if length is None else length
            ends.append(math.ceil(end))
        return [after - before for before, after in pairwise(ends)]


def _phase(item: Any, at: int) -> Phase:
    if isinstance(item, Phase):
        return item
    with settings_within(f"phases.{at}"):
        if not isinstance(item, Mapping):
            raise SettingError("", f"{item!r} is not a phase: give schedule and duration")
        for key in item:
            if key not in ("schedule", "duration", "peak"):
                raise SettingError(str(key), "unknown: a phase has schedule, duration, peak")
        return Phase(**item)


def _unfit(parts: Mapping[str, Schedule]) -> Iterator[SettingError]:
    """Yields what can't be part of another schedule, which has nobody to tell it of evaluations or move a momentum."""
    for place, schedule in parts.items():
        if isinstance(schedule, Plateau):
            yield SettingError(place, "plateau can't be part of another schedule: it must be told of evaluations")
        if getattr(schedule, "momentum", None) is not None:
            yield SettingError(f"{place}.momentum", "can't be moved by part of a schedule: give momentum: null")


@register_schedule("product")
@dataclass(frozen=True, kw_only=True)
class Product(Schedule):
    """Schedules multiplied, each over the whole run."""

    formula = "the product of the factors of all"
    of: tuple[Schedule, ...] = setting((), settings.list_of(_is_schedule), "the schedules, two or more")

    def __post_init__(self) -> None:
        if isinstance(self.of, list | tuple):
            schedules = []
            for at, item in enumerate(self.of):
                with settings_within(f"of.{at}"):
                    schedules.append(as_schedule(item, field=""))
            object.__setattr__(self, "of", tuple(schedules))
        super().__post_init__()

    def _conflicts(self) -> list[SettingError]:
        return list(_unfit({f"of.{at}": schedule for at, schedule in enumerate(self.of)}))

    def rescaled(self, by: Fraction) -> Self:
        """Returns the product of the rescaled schedules."""
        schedules = []
        for at, schedule in enumerate(self.of):
            with settings_within(f"of.{at}"):
                schedules.append(schedule.rescaled(by))
        return replace(self, of=tuple(schedules))

    def _factor(self, run: Run, peak: float | None) -> Factor:
        factors = []
        for at, schedule in enumerate(self.of):
            with settings_within(f"of.{at}"):
                factors.append(schedule.over(run, peak=peak))
        return compose.Product(tuple(factors))


@register_schedule("piecewise")
@dataclass(frozen=True, kw_only=True)
class Piecewise(Schedule):
    """Straight lines between points; as at the first before it, and as at the last after it."""

    formula = "straight lines between (where, factor)"
    points: tuple[tuple[DurationLike, float], ...] = setting(
        ((0, 1.0), ("100%", 0.0)),
        settings.list_of(lambda field, value: _check_point(field, value)),
        "[where, factor] each, in ascending order",
    )
    shape: str = setting(
        "linear", settings.one_of(("linear", "cosine", "constant")), "how it goes from point to point", quiet=True
    )

    def rescaled(self, by: Fraction) -> Self:
        """Returns the schedule of a run `by` times as long, with its points moved."""
        points = tuple((rescale_duration(where, by, field="points"), factor) for where, factor in self.points)
        return replace(self, points=points)

    def _factor(self, run: Run, peak: float | None) -> Factor:
        places = [parse_duration(where, field="points").steps(run) for where, _ in self.points]
        values = [float(value) for _, value in self.points]
        if places != sorted(places):
            raise SettingError("points", f"updates {', '.join(map(str, places))} must ascend")
        if places[-1] > run.total_steps:
            raise SettingError("points", f"update {places[-1]} is beyond the run's {run.total_steps}: move it")
        parts: list[tuple[int, Curve]] = [(places[0], Level(values[0]))]
        for number in range(len(places) - 1):
            steps = places[number + 1] - places[number]
            way = Way(values[number], values[number + 1], steps, self.shape)
            parts.append((steps, Level(values[number]) if self.shape == "constant" else way))
        return Held(in_sequence([*parts, (0, Level(values[-1]))]), run.total_steps)


def _check_point(field: str, value: Any) -> None:
    if not isinstance(value, tuple) or len(value) != 2:
        raise SettingError(field, f'{value!r} must be [where, factor], such as ["50%", 0.3]')
    settings.duration(field, value[0])
    settings.fraction(field, value[1])


@register_schedule("plateau")
@dataclass(frozen=True, kw_only=True)
class Plateau(Warmed):
    """A fall whenever evaluations have stopped improving; the scheduler is told of them by `observe`."""

    formula = "max(m, γ^(falls so far))"
    gamma: float = setting(0.1, settings.ratio, "γ, the fraction that each fall leaves")
    patience: int = setting(2, settings.whole(0), "the evaluations without improvement that are borne")
    threshold: float = setting(1e-4, settings.number(0), "the relative change that counts as improvement")
    rest: int = setting(0, settings.whole(0), "the evaluations after a fall that don't count", quiet=True)

    def after(self, falls: tuple[int, ...], run: Run, *, peak: float | None) -> Factor:
        """Returns the factor where the rate has fallen at the updates `falls`, counted from the start of the run."""
        steady = self.over(run, peak=peak)
        return compose.Product(
            (steady, partial(_fallen, falls=falls, gamma=self.gamma, floor=self._floor_fraction(peak)))
        )

    def _decay(self, span: Span) -> Curve:
        return Level()


def _fallen(step: Numbers, *, falls: tuple[int, ...], gamma: float, floor: float) -> Numbers:
    return at_least(gamma ** (passed(step, falls) * 1.0), floor)
