"""The shapes in which a rate goes from one level to another, by name: for warmups, decays and cooldowns alike.

A shape is a way w(p) from 0 at p = 0 to 1 at p = 1; the level is low + (high − low)·w(p) on the way up and
low + (high − low)·(1 − w(p)) on the way down. Cooldown shapes after Hägele et al. 2024, arXiv 2405.18392.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from finetune.schedules.elementwise import Numbers, cos


def linear(progress: Numbers) -> Numbers:
    """p."""
    return progress


def cosine(progress: Numbers) -> Numbers:
    """(1 − cos πp)/2, half a cosine wave (Loshchilov and Hutter 2017, arXiv 1608.03983)."""
    return 0.5 * (1.0 - cos(math.pi * progress))


def sqrt(progress: Numbers) -> Numbers:
    """√p; as a cooldown 1 − √p."""
    return progress**0.5


def square(progress: Numbers) -> Numbers:
    """p²; as a cooldown 1 − p²."""
    return progress * progress


def mirror_cosine(progress: Numbers) -> Numbers:
    """2p − (1 − cos πp)/2: the cosine, mirrored in the straight line."""
    return 2.0 * progress - cosine(progress)


SHAPES: dict[str, Callable[[Numbers], Numbers]] = {
    "linear": linear,
    "cosine": cosine,
    "sqrt": sqrt,
    "square": square,
    "mirror_cosine": mirror_cosine,
}

EXPONENTIAL = "exponential"
"""The shape start^(1 − p) · end^p, which is not w(p) between two levels: it needs both above 0."""

SHAPE_NAMES = (*SHAPES, EXPONENTIAL)


def travelled(progress: Numbers, start: float, end: float, shape: str) -> Numbers:
    """The level at `progress` (0 … 1) of the way from `start` to `end`, in a shape by name, exact at both ends."""
    if shape == EXPONENTIAL:
        return start ** (1.0 - progress) * end**progress
    way = SHAPES[shape](progress)
    return start + (end - start) * way if start < end else end + (start - end) * (1.0 - way)
