"""The learning-rate range test: which rates a recipe learns at, from a few short trainings while the rate climbs.

After Smith 2017 (arXiv 1506.01186), with an exponential climb, and repeated over seeds. In a search of U updates

    rate(t) = least · (most/least)^(t/(U − 1))     t = 0 … U−1

and the loss of update t is that of its batch, before the update is made. Losses are noisy, so they are smoothed by a
mean whose weights fall by a factor e over U/20 updates on either side: with β = e^(−20/U),

    smoothed(t) = Σ β^|t−s| loss(s) / Σ β^|t−s|    s = 0, 1, …

A mean over the past alone would lag, by a factor of two and more in the rate. While a search goes on there is nothing
else, so that is what decides when it has diverged: the same, over s = 0 … t.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

DIVERGED_FACTOR = 4.0
"""A search ends where the smoothed loss is more than so many times its least value so far, and than its first."""
MEANINGFUL_FALL = 0.05
"""The least fall that counts as one, as a share of the loss it starts from."""
MEANINGFUL_ERRORS = 6.0
"""The same in standard errors of the smoothed loss; pure noise over 100 updates stays below it in 99% of searches."""

LIMITS = (
    "A starting point for a study of the peak rate, not its answer. Each seed is one short climb from the pretrained "
    "weights: it says nothing of generalisation, of the schedule or of late training, and its losses are those of "
    "single batches, so see how far the seeds agree. With another batch size, optimizer or clipping, search anew."
)

Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class RateCurve:
    """The search of one seed: an entry per update, up to the one at which it diverged, if it did.

    `losses`: mean over the batch of each update; `smoothed_losses`: as above.
    `suggestion`: the rate at which the smoothed loss falls fastest per unit of log rate, None for the `reason`.
    `tenth_of_least`: a tenth of the rate at which the smoothed loss is least, None where it doesn't fall by a
    meaningful amount or is still falling at the end of the range.
    """

    seed: int
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed_losses: tuple[float, ...]
    diverged: bool
    suggestion: float | None
    tenth_of_least: float | None
    reason: str | None


@dataclass(frozen=True)
class RateSpread:
    """A rate over the `seeds` that have one: `value` is the geometric mean, between `least` and `greatest`."""

    value: float
    least: float
    greatest: float
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class RateSearch:
    """What a search from the rate `least` to `most` over `updates` updates found: a curve per seed, in their order.

    `reason`: why there is no `suggestion`, and what to change.
    """

    least: float
    most: float
    updates: int
    curves: tuple[RateCurve, ...]

    @property
    def suggestion(self) -> RateSpread | None:
        """The rate of steepest descent, over the seeds that have one."""
        return _spread({curve.seed: curve.suggestion for curve in self.curves})

    @property
    def tenth_of_least(self) -> RateSpread | None:
        """A tenth of the rate at which the loss is least, over the seeds that have one."""
        return _spread({curve.seed: curve.tenth_of_least for curve in self.curves})

    @property
    def reason(self) -> str | None:
        """Why no seed has a suggestion, and what to change; None where one has."""
        if self.suggestion is not None:
            return None
        return "; ".join(dict.fromkeys(curve.reason for curve in self.curves if curve.reason))

    @property
    def limits(self) -> str:
        """What the search can't show."""
        return LIMITS

    def to_dict(self) -> dict[str, Any]:
        """Returns everything as plain values, all of them finite."""
        return {
            **dataclasses.asdict(self),
            "suggestion": _plain(self.suggestion),
            "tenth_of_least": _plain(self.tenth_of_least),
            "reason": self.reason,
            "limits": self.limits,
        }


def _plain(spread: RateSpread | None) -> dict[str, Any] | None:
    return None if spread is None else dataclasses.asdict(spread)


def _spread(rates: dict[int, float | None]) -> RateSpread | None:
    found = {seed: rate for seed, rate in rates.items() if rate is not None}
    if not found:
        return None
    value = math.exp(math.fsum(math.log(rate) for rate in found.values()) / len(found))
    return RateSpread(value=value, least=min(found.values()), greatest=max(found.values()), seeds=tuple(found))


def read_curve(seed: int, rates: Sequence[float], losses: Sequence[float | None], *, updates: int) -> RateCurve:
    """Returns what a seed's climb says; a pure function of the rate and the loss of each update, in order.

    `losses`: None for one that isn't finite; `updates`: how many were planned, U above. The slope at update t is that
    between the smoothed losses of t − U/20 and t + U/20, looked for from U/10 on to where the smoothed loss is least.
    Beyond what counts as diverged, losses all count the same. There is no suggestion where

    - the smoothed loss falls from update U/10 on by less than 5%, or by less than 6 of its standard errors, taken from
      the differences between successive losses; or
    - it falls fastest at the start of what was looked at, or within the last U/10 updates of a curve that still falls
      at its end, so that it may fall faster beyond.
    """
    count, limit, diverged = until_divergence(losses, updates=updates)
    decay = _decay(updates)
    kept, climbed = np.array(losses[:count], dtype=np.float64), np.array(rates[:count], dtype=np.float64)
    # A last loss a thousand times the others would lift the mean long before it.
    smoothed = _smooth(np.minimum(kept, limit), decay=decay)
    suggestion, tenth_of_least, reason = _suggest(
        climbed, smoothed, error=_standard_error(kept, decay=decay), updates=updates, diverged=diverged
    )
    return RateCurve(
        seed=seed,
        rates=tuple(climbed.tolist()),
        losses=tuple(kept.tolist()),
        smoothed_losses=tuple(smoothed.tolist()),
        diverged=diverged,
        suggestion=suggestion,
        tenth_of_least=tenth_of_least,
        reason=reason,
    )


def until_divergence(losses: Sequence[float | None], *, updates: int) -> tuple[int, float, bool]:
    """Returns how many of `losses` to keep, the limit of their mean over the past at the end, and whether they diverge.

    They do at the first whose mean is beyond the limit, which is kept, or that isn't finite, which is not.
    """
    finite = next((position for position, loss in enumerate(losses) if loss is None), len(losses))
    if finite == 0:
        return 0, math.inf, finite < len(losses)
    past = _smooth_past(np.array(losses[:finite], dtype=np.float64), decay=_decay(updates))
    limits = np.maximum(DIVERGED_FACTOR * np.minimum.accumulate(past), past[0])
    beyond = np.flatnonzero(past > limits)
    last = int(beyond[0]) if len(beyond) else finite - 1
    return last + 1, float(limits[last]), bool(len(beyond)) or finite < len(losses)


def _decay(updates: int) -> float:
    return math.exp(-20 / updates)


def _smooth_past(values: Floats, *, decay: float) -> Floats:
    return _past_sums(values, decay=decay) / _past_sums(np.ones_like(values), decay=decay)


def _smooth(values: Floats, *, decay: float) -> Floats:
    def both_sides(terms: Floats) -> Floats:
        return _past_sums(terms, decay=decay) + _past_sums(terms[::-1], decay=decay)[::-1] - terms

    return both_sides(values) / both_sides(np.ones_like(values))


def _past_sums(values: Floats, *, decay: float) -> Floats:
    """Returns Σ β^(t−s) value(s) over s = 0 … t for each t, with β = `decay`; the shape stays (n,)."""
    sums = np.empty_like(values)
    total = 0.0
    for position, value in enumerate(values):
        sums[position] = total = decay * total + value
    return sums


def _standard_error(losses: Floats, *, decay: float) -> float:
    """Returns the noise of the smoothed loss, if that of single losses is independent.

    Of differences that are normal with deviation √2·σ the median is 0.6745·√2·σ in size, whatever the trend and a few
    outliers; a mean with weights w has the variance σ²·Σw²/(Σw)².
    """
    if len(losses) < 2:
        return 0.0
    single = float(np.median(np.abs(np.diff(losses)))) / (0.6745 * math.sqrt(2))
    return single * math.sqrt((1 - decay) * (1 + decay**2) / (1 + decay) ** 3)


def _suggest(
    rates: Floats, losses: Floats, *, error: float, updates: int, diverged: bool
) -> tuple[float | None, float | None, str | None]:
    """Returns the rate of steepest descent, a tenth of the rate of the least loss, and why there isn't the former."""
    start, half, end = math.ceil(updates / 10), max(1, round(updates / 20)), len(losses) - 1
    first, last = start + half, end - half
    if last - first < 2:
        return None, None, "the loss diverges within the first updates: lower least"
    bottom = start + int(np.argmin(losses[start:]))
    meaningful = max(MEANINGFUL_FALL * abs(losses[start]), MEANINGFUL_ERRORS * error)
    if losses[start] - losses[bottom] < meaningful:
        return None, None, _why_no_fall(losses[start:] - losses[start], meaningful, soon=2 * half, diverged=diverged)
    # Noise can put the least a little before the end of a loss that still falls there.
    still_falling = bottom == end or (not diverged and bottom >= end - half)
    tenth = None if still_falling and not diverged else float(rates[bottom]) / 10
    centres = np.arange(first, max(first, min(last, bottom)) + 1)
    before, after = centres - half, centres + half
    climb = np.log(rates[after] / rates[before])
    climb[climb == 0] = math.inf  # fp16 skips updates that overflow, and the rate waits
    steepest = int(centres[np.argmin((losses[after] - losses[before]) / climb)])
    if steepest == first:
        return None, tenth, "the loss falls fastest at the start of the range: lower least"
    # Towards the end the mean has ever less to go by on that side, which flattens it.
    if still_falling and steepest >= end - 2 * half:
        if diverged:
            return None, tenth, "the loss falls fastest right before it diverges: give more updates, for a finer climb"
        return None, tenth, "the loss falls fastest at the end of the range: raise most"
    return float(rates[steepest]), tenth, None


def _why_no_fall(changes: Floats, meaningful: float, *, soon: int, diverged: bool) -> str:
    """`changes`: of the smoothed loss since the start; `soon`: within how many updates a rise is one from the start."""
    if np.any(changes[:soon] > meaningful):
        return "the loss rises from the start of the range: lower least"
    if diverged or changes[-1] > meaningful:
        return "the loss rises before it has fallen by much: give more updates, or a narrower range (least, most)"
    return "the loss doesn't fall by more than its noise: raise most, or give more updates"
