"""Schedules of others, tried before they are relied on."""

from __future__ import annotations

import math
import traceback
from numbers import Real
from pathlib import Path

from finetune.errors import FinetuneError, SettingError
from finetune.schedules.compose import Factor

ROUNDING = 1e-9
_PACKAGE = str(Path(__file__).parents[1])
MOST_TRIED = 2_000
"""At how many updates a factor is looked at, spread over the run: all, or enough that no stretch of it is missed."""


def check_factor(factor: Factor, total_steps: int) -> None:
    """Raises SettingError where the factor fails at an update, or isn't a finite number from 0 up."""
    tried = min(total_steps, MOST_TRIED)
    for number in range(tried):
        step = number * (total_steps - 1) // max(1, tried - 1)
        try:
            value = factor(step)
        except Exception as error:
            raise SettingError("", f"fails at update {step} of {total_steps}: {in_words(error)}") from error
        if not isinstance(value, Real) or not math.isfinite(value) or value < -ROUNDING:
            raise SettingError("", f"gives {value!r} at update {step} of {total_steps}, not a finite number from 0 up")


def in_words(error: BaseException) -> str:
    """Returns what a user's own program raised, and the line of it where that was."""
    if isinstance(error, FinetuneError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    last = next((frame for frame in reversed(frames) if not frame.filename.startswith((_PACKAGE, "<"))), None)
    where = f" ({Path(last.filename).name}, line {last.lineno})" if last else ""
    return f"{type(error).__name__}: {error}{where}"
