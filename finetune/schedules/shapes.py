"""The shapes of a decay: progress p in [0, 1] ▶ [0, 1], falling from 1 at p = 0 to 0 at p = 1."""

import math


def linear(progress: float) -> float:
    """1 − p."""
    return 1.0 - progress


def cosine(progress: float) -> float:
    """(1 + cos πp)/2, half a cosine wave (Loshchilov and Hutter 2017, arXiv 1608.03983, without restarts)."""
    return 0.5 * (1.0 + math.cos(math.pi * progress))
