"""A schedule fitted to the gradient norms that a run recorded (Defazio et al. 2023, arXiv 2310.07831, algorithm 1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from finetune.errors import SettingError
from finetune.schedules.durations import DurationLike, Run, parse_duration
from finetune.schedules.phases import Piecewise
from finetune.schedules.settings import interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Values = NDArray[np.float64]


def refined_factors(norms: Sequence[float], *, smoothing: DurationLike = "10%", exponent: float = 2.0) -> Values:
    """Returns the factor of each of T updates, fitted to the gradient norm of each; T floats from 0 to 1.

    With Ĝ the norms after a median filter as long as `smoothing`, w = Ĝ^−exponent and η_t = w_t · Σ_{s>t} w_s, the
    factors are η over its maximum. The paper has exponent 2 for SGD and l2 norms; for Adam it has 1 and l1 norms. Equal
    norms give exactly the linear decay from 1 at the first update to 0 at the last. Raises SettingError for fewer than
    3 norms, for norms that aren't finite and above 0, and for a smoothing of no updates.
    """
    import numpy as np

    given = np.asarray(norms, dtype=float)
    if given.ndim != 1 or len(given) < 3:
        raise SettingError("norms", f"{given.size} gradient norms are too few to fit a schedule to: record at least 3")
    faulty = np.flatnonzero(~(np.isfinite(given) & (given > 0)))
    if len(faulty):
        raise SettingError("norms", f"{given[faulty[0]]} at update {faulty[0] + 1} must be finite and above 0")
    interval("smoothing", smoothing)
    width = parse_duration(smoothing, field="smoothing").steps(Run(total_steps=len(given)))
    weights = _median_filtered(given, width) ** -exponent
    later = np.append(np.cumsum(weights[:0:-1])[::-1], 0.0)
    factors: Values = weights * later
    factors /= factors.max()
    return factors


def _median_filtered(values: Values, width: int) -> Values:
    """Returns the median of the `width` (made odd) values around each, the ends repeated beyond the ends."""
    import numpy as np

    half = width // 2
    padded = np.pad(values, half, mode="edge")
    filtered: Values = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1), axis=-1)
    return filtered


def fitted(factors: Sequence[float], *, tolerance: float = 0.01) -> Piecewise:
    """Returns straight lines that stay within `tolerance` of `factors`, one for each update of a run.

    The points are shares of the run, so that the schedule can be used for a run of another length. Of points that lie
    nearer, the furthest is added first (Ramer 1972; Douglas and Peucker 1973). Raises SettingError for a tolerance
    that isn't above 0.
    """
    import numpy as np

    if not tolerance > 0:
        raise SettingError("tolerance", f"{tolerance} must be above 0")
    values = np.asarray(factors, dtype=float)
    kept, waiting = {0, len(values) - 1}, [(0, len(values) - 1)]
    while waiting:
        first, last = waiting.pop()
        if last - first < 2:
            continue
        line = np.linspace(values[first], values[last], last - first + 1)
        off = np.abs(values[first : last + 1] - line)
        furthest = first + int(off.argmax())
        if off.max() > tolerance:
            kept.add(furthest)
            waiting += [(first, furthest), (furthest, last)]
    return Piecewise(points=tuple((_share(at, len(values)), _rounded(values[at])) for at in sorted(kept)))


def _share(at: int, total: int) -> str:
    """`at` of `total` as a share that comes back as `at` updates of as long a run: cut, since it is rounded up."""
    digits = 4 + max(0, int(math.log10(total)) - 3)
    return f"{math.floor(100 * at / total * 10**digits) / 10**digits:.{digits}f}".rstrip("0").rstrip(".") + "%"


def _rounded(value: float) -> float:
    return min(1.0, max(0.0, round(float(value), 4)))
