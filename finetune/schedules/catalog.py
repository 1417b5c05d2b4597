"""The schedules that fall once, each a frozen class of settings under its name."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import Self

from finetune.errors import SettingError
from finetune.schedules import settings
from finetune.schedules.base import Decay, Warmed, register_schedule, steps_of
from finetune.schedules.compose import Curve, Factor, Held, Level, Span, Way, in_sequence, progress
from finetune.schedules.durations import DurationLike, Run, parse_duration, rescale_duration
from finetune.schedules.elementwise import Numbers, at_least, cos, passed
from finetune.schedules.settings import setting
from finetune.schedules.shapes import EXPONENTIAL, SHAPE_NAMES

TIMESCALE = 10_000  # updates, where neither a timescale nor a warmup gives one


@register_schedule("constant")
@dataclass(frozen=True, kw_only=True)
class Constant(Warmed):
    """The peak, after the warmup; a floor changes nothing."""

    formula = "1"

    def _decay(self, span: Span) -> Curve:
        return Level()


@register_schedule("linear")
@dataclass(frozen=True, kw_only=True)
class Linear(Warmed):
    """A straight line from the peak to the floor."""

    formula = "m + (1 − m)(1 − p)"

    def _decay(self, span: Span) -> Curve:
        return Way(1.0, span.floor, span.decay_steps)


@register_schedule("polynomial")
@dataclass(frozen=True, kw_only=True)
class Polynomial(Warmed):
    """A power of what is left of the run."""

    formula = "m + (1 − m)(1 − p)^k"
    power: float = setting(2.0, settings.positive, "k; 1 is linear")

    def _decay(self, span: Span) -> Curve:
        return Decay(partial(_power, power=self.power), span.decay_steps, span.floor)


@register_schedule("cosine")
@dataclass(frozen=True, kw_only=True)
class Cosine(Warmed):
    """Half a cosine wave from the peak to the floor; more of the wave, or a later fall, by its settings."""

    formula = "m + (1 − m)(1 + cos 2πc·pᵏ)/2"
    source = "Loshchilov and Hutter 2017, arXiv 1608.03983; k-decay: Zhang and Li 2020, arXiv 2004.05909"
    waves: float = setting(
        0.5, settings.positive, "c, whole cosine waves; 0.5 falls once, and n + 0.5 end at the floor", quiet=True
    )
    k_decay: float = setting(1.0, settings.positive, "k; above 1 the rate stays high for longer", quiet=True)

    def _decay(self, span: Span) -> Curve:
        if self.waves == 0.5 and self.k_decay == 1:
            return Way(1.0, span.floor, span.decay_steps, "cosine")
        return Decay(partial(_waves, waves=self.waves, k=self.k_decay), span.decay_steps, span.floor)


@register_schedule("step")
@dataclass(frozen=True, kw_only=True)
class Step(Warmed):
    """A fall to a fraction of the rate at even distances, counted from the end of the warmup."""

    formula = "max(m, γ^⌊τ/s⌋)"
    gamma: float = setting(0.1, settings.ratio, "γ, the fraction that each fall leaves")
    every: DurationLike = setting("30%", settings.interval, "s; a share is one of the whole run, warmup included")

    def _decay(self, span: Span) -> Curve:
        return partial(_staircase, gamma=self.gamma, every=steps_of(self.every, "every", span.run), floor=span.floor)


@register_schedule("multistep")
@dataclass(frozen=True, kw_only=True)
class Multistep(Warmed):
    """A fall to a fraction of the rate at each milestone, counted from the start of the run."""

    formula = "max(m, γ^(number of milestones ≤ t))"
    milestones: tuple[DurationLike, ...] = setting(
        ("50%", "75%"), settings.list_of(settings.duration), "where the rate falls, in ascending order"
    )
    gamma: float = setting(0.1, settings.ratio, "γ, the fraction that each fall leaves")

    def _decay(self, span: Span) -> Curve:
        marks = [steps_of(milestone, "milestones", span.run) for milestone in self.milestones]
        if marks != sorted(set(marks)):
            raise SettingError("milestones", f"updates {', '.join(map(str, marks))} must ascend, each after the last")
        if marks[0] < span.warmup_steps:
            raise SettingError(
                "milestones", f"update {marks[0]} lies in the warmup of {span.warmup_steps} updates: move it behind"
            )
        since = tuple(mark - span.warmup_steps for mark in marks)
        return partial(_milestones, marks=since, gamma=self.gamma, floor=span.floor)


@register_schedule("exponential")
@dataclass(frozen=True, kw_only=True)
class Exponential(Warmed):
    """A fall by the same ratio in every update: to a fraction at the end, or by a fraction over an interval."""

    formula = "max(m, f^p), or max(m, γ^(τ/s))"
    final: float | None = setting(
        None, settings.optional(settings.ratio), "f, the fraction reached at the end; 0.01 unless gamma is given"
    )
    gamma: float | None = setting(None, settings.optional(settings.ratio), "γ, the fraction left after s updates")
    every: DurationLike | None = setting(None, settings.optional(settings.interval), "s, 1 update unless given")

    def _conflicts(self) -> list[SettingError]:
        problems = super()._conflicts()
        if self.final is not None and self.gamma is not None:
            problems.append(
                SettingError("gamma", f"{self.gamma} and final {self.final} both set the decay: give one of them")
            )
        if self.every is not None and self.gamma is None:
            problems.append(
                SettingError("every", f"{self.every} has no effect without gamma: give gamma too, or leave it out")
            )
        return problems

    def rescaled(self, by: Fraction) -> Self:
        """Returns the schedule of a run `by` times as long: of a γ over updates its power by 1/by, which is exact."""
        over_updates = self.every is None or parse_duration(self.every, field="every").unit == "updates"
        if self.gamma is None or not over_updates:
            return super().rescaled(by)
        shorter = Warmed.rescaled(replace(self, every=None), by)
        return replace(shorter, gamma=self.gamma ** float(1 / by), every=self.every)

    def _decay(self, span: Span) -> Curve:
        if self.gamma is not None:
            every = 1 if self.every is None else steps_of(self.every, "every", span.run)
            return partial(_geometric, ratio=self.gamma, over=every, floor=span.floor)
        final = 0.01 if self.final is None else self.final
        return partial(_geometric, ratio=final, over=span.decay_steps, floor=span.floor)


@register_schedule("inverse_sqrt")
@dataclass(frozen=True, kw_only=True)
class InverseSqrt(Warmed):
    """A fall with the root of time, which needs no length of the run."""

    formula = "max(m, √(τ₀/(τ₀ + τ)))"
    source = "Vaswani et al. 2017, arXiv 1706.03762"
    timescale: DurationLike | None = setting(
        None, settings.optional(settings.interval), "τ₀; W unless given, or 10000 updates without a warmup"
    )

    def rescaled(self, by: Fraction) -> Self:
        """Returns the schedule of a run `by` times as long, with a timescale also where it is left to the default."""
        if self.timescale is not None or parse_duration(self.warmup, field="warmup").amount:
            return super().rescaled(by)
        return replace(self, timescale=rescale_duration(TIMESCALE, by, field="timescale"))

    def _decay(self, span: Span) -> Curve:
        timescale = span.warmup_steps or TIMESCALE
        if self.timescale is not None:
            timescale = steps_of(self.timescale, "timescale", span.run)
        return partial(_inverse_root, timescale=timescale, floor=span.floor)


@register_schedule("wsd")
@dataclass(frozen=True, kw_only=True)
class WarmupStableDecay(Warmed):
    """The peak until the cooldown begins, C updates before the end, then down to the floor in any shape."""

    formula = "1 for t < T − C, then m + (1 − m)(1 − w((t − T + C)/C))"
    source = "Hu et al. 2024, arXiv 2404.06395; cooldowns: Hägele et al. 2024, arXiv 2405.18392"
    cooldown: DurationLike = setting("20%", settings.interval, "C; a share is one of the whole run")
    shape: str = setting(
        "sqrt", settings.one_of(SHAPE_NAMES, {"1-sqrt": "sqrt", "exp": EXPONENTIAL}), "w, how it falls"
    )

    def _conflicts(self) -> list[SettingError]:
        problems = super()._conflicts()
        if self.shape == EXPONENTIAL and not (self.floor or self.floor_rate):
            problems.append(SettingError("floor", "0 can't be reached exponentially: give one above 0, such as 0.01"))
        return problems

    def _decay(self, span: Span) -> Curve:
        cooldown = steps_of(self.cooldown, "cooldown", span.run)
        _check_fits("cooldown", cooldown, span)
        return in_sequence([(span.decay_steps - cooldown, Level()), (0, Way(1.0, span.floor, cooldown, self.shape))])


@register_schedule("knee")
@dataclass(frozen=True, kw_only=True)
class Knee(Warmed):
    """Explore at the peak, then exploit on a straight line to the floor."""

    formula = "1 for τ < E, then m + (1 − m)(1 − (τ − E)/(T − W − E))"
    source = "Iyer et al. 2020, arXiv 2003.03977"
    explore: DurationLike = setting("50%", settings.duration, "E, the updates at the peak; a share is of the whole run")

    def _decay(self, span: Span) -> Curve:
        explore = steps_of(self.explore, "explore", span.run)
        _check_fits("explore", explore, span)
        return in_sequence([(explore, Level()), (0, Way(1.0, span.floor, span.decay_steps - explore))])


@register_schedule("rex")
@dataclass(frozen=True, kw_only=True)
class Rex(Warmed):
    """A reflected exponential: high for long, then steeply down."""

    formula = "m + (1 − m)(1 − p)/(1 − p + βp)"
    source = "Chen, Wolfe and Kyrillidis 2021, arXiv 2107.04197"
    beta: float = setting(0.5, settings.number(most=1, above=0), "β; the paper's is 0.5, and 1 is linear")

    def _decay(self, span: Span) -> Curve:
        return Decay(partial(_reflected, beta=self.beta), span.decay_steps, span.floor)


@register_schedule("one_cycle")
@dataclass(frozen=True, kw_only=True)
class OneCycle(Warmed):
    """Up to the peak and down to almost nothing, with the momentum going the other way."""

    formula = "s + (1 − s)·w(t/W) for t < W, then m + (1 − m)(1 − w(p)); momentum high → low → high alike"
    source = "Smith and Topin 2018, arXiv 1708.07120"
    warmup: DurationLike = setting("30%", settings.duration, "W, how long the rate climbs to the peak")
    warmup_shape: str = setting("cosine", settings.one_of(SHAPE_NAMES), "w, how it climbs and falls", quiet=True)
    warmup_start: float = setting(0.04, settings.fraction, "s, the fraction of the peak it climbs from", quiet=True)
    floor: float = setting(4e-6, settings.fraction, "m, the fraction of the peak that it falls to")
    momentum: tuple[float, float] | None = setting(
        (0.85, 0.95),
        settings.optional(settings.list_of(settings.number(0, 0.9999))),
        "the least, at the peak rate, and the greatest; of Adam's kind it is the first beta; null leaves it alone",
    )

    def _conflicts(self) -> list[SettingError]:
        problems = super()._conflicts()
        if self.momentum is not None and (len(self.momentum) != 2 or self.momentum[0] > self.momentum[1]):
            problems.append(SettingError("momentum", f"{list(self.momentum)} must be [least, greatest], or null"))
        if self.warmup_shape == EXPONENTIAL and self.floor == 0:
            problems.append(SettingError("floor", "0 can't be reached exponentially: give one above 0, such as 0.01"))
        return problems

    def _decay(self, span: Span) -> Curve:
        return Way(1.0, span.floor, span.decay_steps, self.warmup_shape)

    def resolve_momentum(self, run: Run) -> Factor | None:
        """Returns the momentum: from its greatest to its least at the peak rate, and back."""
        if self.momentum is None:
            return None
        least, greatest = self.momentum
        warmup = parse_duration(self.warmup, field="warmup").steps(run)
        ahead = int(self.inclusive)
        down = Way(greatest, least, warmup + ahead, self.warmup_shape, ahead)
        up = Way(least, greatest, max(0, run.total_steps - ahead - warmup), self.warmup_shape)
        return Held(in_sequence([(warmup, down), (0, up)]), run.total_steps - ahead)


def _check_fits(field: str, steps: int, span: Span) -> None:
    if steps > span.decay_steps:
        raise SettingError(
            field, f"{steps} updates are more than the {span.decay_steps} after the warmup: shorten one of them"
        )


def _power(progress: Numbers, *, power: float) -> Numbers:
    return (1.0 - progress) ** power


def _waves(progress: Numbers, *, waves: float, k: float) -> Numbers:
    return 0.5 * (1.0 + cos(2.0 * math.pi * waves * progress**k))


def _reflected(progress: Numbers, *, beta: float) -> Numbers:
    left = 1.0 - progress
    return left / (left + beta * progress)


def _staircase(step: Numbers, *, gamma: float, every: int, floor: float) -> Numbers:
    return at_least(gamma ** (step // every * 1.0), floor)


def _milestones(step: Numbers, *, marks: tuple[int, ...], gamma: float, floor: float) -> Numbers:
    return at_least(gamma ** (passed(step, marks) * 1.0), floor)


def _geometric(step: Numbers, *, ratio: float, over: int, floor: float) -> Numbers:
    return at_least(ratio ** progress(step, over), floor)


def _inverse_root(step: Numbers, *, timescale: int, floor: float) -> Numbers:
    return at_least((timescale / (timescale + step)) ** 0.5, floor)
