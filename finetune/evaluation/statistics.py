"""What paired runs can and can't show: intervals, tests, equivalence, and how many seeds would settle it.

A difference belongs to a seed: the score of one setting minus that of the other, from runs that share the seed, and so
the initial weights and the order of the data. n is the number of seeds throughout.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Values = NDArray[np.float64]

EXACT_UP_TO = 16
"""Seeds up to which all 2ⁿ flips of signs are counted; beyond, as many as that are drawn."""
MOST_SEEDS = 10_000
_BLOCK = 4096  # of draws: so that what is worked on at once stays small


@dataclass(frozen=True)
class Interval:
    """An estimate, and the bounds between which the truth lies in a share `level` of such studies."""

    estimate: float
    low: float
    high: float
    level: float

    def holds(self, value: float) -> bool:
        """Whether `value` is between the bounds."""
        return self.low <= value <= self.high


def mean_interval(differences: ArrayLike, *, level: float = 0.95) -> Interval:
    """Returns the mean of n ≥ 2 differences with Student's interval, mean ± t · s/√n with n − 1 degrees of freedom.

    Exact where the differences are normal (Student 1908). Raises ValueError for fewer than 2.
    """
    values = _checked(differences, least=2)
    mean, error = float(values.mean()), _standard_error(values)
    half = _t_quantile((1 + level) / 2, len(values) - 1) * error
    return Interval(mean, mean - half, mean + half, level)


def sign_flip_p_value(differences: ArrayLike, *, seed: int = 0) -> float:
    """Returns the two-sided p-value of the hypothesis that each difference is as likely to have the other sign.

    It is the share of all 2ⁿ flips of signs whose mean is at least as far from 0 as the observed one (Fisher 1935),
    exact for n ≤ 16 whatever the distribution; beyond, of 2¹⁶ flips drawn from `seed`, the observed one among them
    (Phipson and Smyth 2010). The least value is 2/2ⁿ: with 5 seeds 0.0625, so that 5% needs 6. Raises ValueError for
    none.
    """
    values = _checked(differences, least=1)
    observed = abs(values.sum())
    # Sums that are equal but for rounding must count as equal.
    threshold = observed - 1e-12 * np.abs(values).sum()
    if len(values) <= EXACT_UP_TO:
        sums = _all_flipped_sums(values)
        return float(np.mean(np.abs(sums) >= threshold))
    signs = _signs(len(values), seed)
    blocks = [signs[start : start + _BLOCK] @ values for start in range(0, len(signs), _BLOCK)]
    return float((1 + np.sum(np.abs(np.concatenate(blocks)) >= threshold)) / (1 + len(signs)))


@functools.lru_cache(maxsize=2)
def _signs(count: int, seed: int) -> NDArray[np.int8]:
    signs = np.random.default_rng(seed).integers(0, 2, size=(2**EXACT_UP_TO - 1, count), dtype=np.int8)
    signs *= 2
    signs -= 1
    return signs


def _all_flipped_sums(values: Values) -> Values:
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p-values adjusted for their number, in the order given; a share α of them errs with probability ≤ α.

    Sorted ascending, p_(i) becomes max over j ≤ i of min(1, (m − j + 1) · p_(j)) (Holm 1979).
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for position, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - position) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def equivalence_p_value(differences: ArrayLike, *, margin: float) -> float:
    """Returns the p-value of the hypothesis that the mean difference is not within ±`margin`.

    The larger of two one-sided t tests' (TOST, Schuirmann 1987): it is at most α just where the interval of level
    1 − 2α lies within the margin. Raises ValueError for fewer than 2 differences, and for a margin that isn't above 0.
    """
    if not margin > 0:
        raise ValueError(f"a margin of {margin} is no region: give one above 0")
    values = _checked(differences, least=2)
    room, error = margin - abs(float(values.mean())), _standard_error(values)
    if error == 0:
        return 0.0 if room > 0 else 1.0
    from scipy import special

    return float(special.stdtr(len(values) - 1, -room / error))


def seeds_needed(differences: ArrayLike, *, effect: float, level: float = 0.95, power: float = 0.8) -> int | None:
    """Returns how many seeds a paired t test at 1 − `level` needs to find a true mean of `effect` with that power.

    The spread is taken to be that of the n ≥ 2 differences at hand, itself an estimate. The power is that of the
    noncentral t distribution with noncentrality effect · √n/s. None where it is over 10,000. Raises ValueError for an
    effect of 0.
    """
    if effect == 0:
        raise ValueError("no number of seeds finds an effect of 0")
    spread = float(_checked(differences, least=2).std(ddof=1))
    if spread < 1e-9 * abs(effect):
        return 2
    size = abs(effect) / spread
    low, high = 2, MOST_SEEDS
    if _power(size, high, level) < power:
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _power(size, middle, level) >= power else (middle + 1, high)
    return low


def _power(size: float, seeds: int, level: float) -> float:
    from scipy import special

    degrees, shift = seeds - 1, size * math.sqrt(seeds)
    critical = _t_quantile((1 + level) / 2, degrees)
    # Far below its centre, the distribution's function is NaN where it underflows; it is nothing there.
    within, below = np.nan_to_num(special.nctdtr(degrees, shift, [critical, -critical]))
    return float(1 - within + below)


def bootstrap_interval(
    first: ArrayLike, second: ArrayLike, *, level: float = 0.95, draws: int = 2_000, seed: int = 0
) -> Interval:
    """Returns the mean difference of two settings, with an interval over new seeds and new test examples at once.

    `first` and `second` have the shape (seeds, examples): what each example scored, such as 1 for a right prediction
    and 0 for a wrong one, paired by seed and example. Seeds and examples are drawn anew with replacement, independently
    (the pigeonhole bootstrap, Owen 2007, which errs to the wide side), and the bounds are percentiles of `draws`
    means. Raises ValueError for shapes that differ or hold nothing.
    """
    gains = np.asarray(first, dtype=np.float32) - _same_shape(first, second)
    seeds, examples = gains.shape
    by_seed = _resampled(seeds, draws, seed).astype(np.float32)
    drawn = _resampled(examples, draws, seed + 1)
    blocks = [slice(start, start + _BLOCK) for start in range(0, draws, _BLOCK)]
    sums = [np.einsum("ds,ds->d", by_seed[block], drawn[block].astype(np.float32) @ gains.T) for block in blocks]
    means = np.concatenate(sums) / (seeds * examples)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(gains.mean(dtype=float)), float(low), float(high), level)


@functools.lru_cache(maxsize=4)
def _resampled(count: int, draws: int, seed: int) -> NDArray[np.uint8]:
    """Returns how often each of `count` things is drawn, in each of `draws` samples of that size with replacement."""
    generator = np.random.default_rng([seed, count])
    return np.stack(
        [np.bincount(generator.integers(0, count, count), minlength=count).astype(np.uint8) for _ in range(draws)]
    )


def _same_shape(first: ArrayLike, second: ArrayLike) -> NDArray[np.float32]:
    one, other = np.asarray(first), np.asarray(second, dtype=np.float32)
    if one.shape != other.shape or one.ndim != 2 or one.size == 0:
        raise ValueError(f"shapes {one.shape} and {other.shape} are not the same seeds × examples")
    return other


def indistinguishable(labels: Sequence[str], different: Iterable[tuple[str, str]]) -> list[tuple[str, ...]]:
    """Returns the largest groups of `labels` no two of which are among the pairs found `different`, in their order.

    A label may be in several groups, as in a display of letters (Piepho 2004). They are the maximal cliques of the
    labels that aren't different (Bron and Kerbosch 1973).
    """
    apart = {frozenset(pair) for pair in different}
    alike = {
        one: {other for other in labels if other != one and frozenset((one, other)) not in apart} for one in labels
    }
    place = {label: number for number, label in enumerate(labels)}
    groups = [tuple(sorted(group, key=place.__getitem__)) for group in _cliques(set(), set(labels), set(), alike)]
    return sorted(groups, key=lambda group: [place[label] for label in group])


def _cliques(
    group: set[str], candidates: set[str], seen: set[str], alike: Mapping[str, set[str]]
) -> Iterator[set[str]]:
    if not candidates and not seen:
        yield group
        return
    pivot = max(candidates | seen, key=lambda label: len(alike[label] & candidates))
    for label in sorted(candidates - alike[pivot]):
        yield from _cliques(group | {label}, candidates & alike[label], seen & alike[label], alike)
        candidates = candidates - {label}
        seen = seen | {label}


def interquartile_mean(values: ArrayLike) -> Values:
    """Returns the mean of the middle half along the first axis, a quarter cut off at each end (Agarwal et al. 2021).

    Where a quarter isn't whole, the values at the edge count in part. arXiv 2108.13264. Raises ValueError for none.
    """
    _checked(np.ravel(values), least=1)
    ordered = np.sort(np.asarray(values, dtype=float), axis=0)
    count = len(ordered)
    edges = np.arange(count + 1, dtype=float)
    inside = np.clip(edges[1:], count / 4, 3 * count / 4) - np.clip(edges[:-1], count / 4, 3 * count / 4)
    means: Values = inside @ ordered / inside.sum()
    return means


def _checked(values: ArrayLike, *, least: int) -> Values:
    checked = np.asarray(values, dtype=float)
    if checked.ndim != 1 or len(checked) < least:
        raise ValueError(f"{checked.size} values are too few: {least} or more are needed")
    if not np.isfinite(checked).all():
        raise ValueError("a value is not finite: leave runs that diverged out, and say so")
    return checked


def _standard_error(values: Values) -> float:
    return float(values.std(ddof=1)) / math.sqrt(len(values))


def _t_quantile(probability: float, degrees: int) -> float:
    from scipy import special

    quantile: Any = special.stdtrit(degrees, probability)
    return float(quantile)
