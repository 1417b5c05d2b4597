"""Arithmetic that takes one number or a numpy array of them; numpy is loaded by whoever brings an array."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

Numbers = Any
"""A number, or a numpy array of numbers; what goes in comes out."""


def is_number(value: Numbers) -> bool:
    """Whether `value` is one plain number."""
    return isinstance(value, int | float)


def cos(value: Numbers) -> Numbers:
    """The cosine of `value` in radians."""
    if isinstance(value, float):
        return math.cos(value)
    import numpy as np

    return np.cos(value)


def at_least(value: Numbers, least: float) -> Numbers:
    """The greater of `value` and `least`."""
    if is_number(value):
        return max(least, float(value))
    import numpy as np

    return np.maximum(value, least)


def clipped(value: Numbers, least: int, most: int) -> Numbers:
    """`value`, or the nearer of `least` and `most` where it lies beyond them."""
    if is_number(value):
        return min(max(value, least), most)
    import numpy as np

    return np.clip(value, least, most)


def choose(condition: Numbers, where: Numbers, otherwise: Numbers) -> Numbers:
    """`where` where `condition` holds, `otherwise` elsewhere."""
    if isinstance(condition, bool):
        return where if condition else otherwise
    import numpy as np

    return np.where(condition, where, otherwise)


def passed(value: Numbers, marks: Sequence[int]) -> Numbers:
    """How many of the ascending `marks` are at or below `value`."""
    if is_number(value):
        return bisect_right(marks, value)
    import numpy as np

    return np.searchsorted(np.asarray(marks), value, side="right")


def taken(items: Sequence[float], index: Numbers) -> Numbers:
    """The item, or the array of items, at `index`."""
    if is_number(index):
        return items[index]
    import numpy as np

    return np.asarray(items)[index]
