"""How the values of a metric are written: with as many digits as tell them apart, and all of a table alike."""

from __future__ import annotations

import math

DIGITS = 4
PLAIN = f".{DIGITS}f"


def form_of(size: float) -> str:
    """Returns how values about as large as `size` are written, as a specification of `format`.

    Between 0.01 and 1, where shares and correlations lie, with four decimals; beyond, with four significant digits, so
    that an error of 0.0003 and a perplexity of 31.4 can be read; the smallest and the largest with a power of ten.
    """
    size = abs(size)
    if size == 0 or 0.01 <= size <= 1:
        return PLAIN
    if not 1e-6 <= size < 1e7:
        return f".{DIGITS - 1}e"
    return f".{max(0, DIGITS - 1 - math.floor(math.log10(size)))}f"


def written(value: float) -> str:
    """Returns a value that stands alone."""
    return f"{value:{form_of(value)}}"
