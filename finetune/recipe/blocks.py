"""What all blocks of a recipe share, and the kinds of number and duration that they hold."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field

from finetune.errors import SettingError
from finetune.schedules import DurationLike, parse_duration

PositiveInt = Annotated[int, Field(gt=0, lt=2**31)]


def check_interval(value: DurationLike) -> DurationLike:
    if parse_duration(value, field="every").amount == 0:
        raise SettingError("every", f"{value} is no interval: give 1 update or more, or null for none in between")
    return value


Interval = Annotated[DurationLike, AfterValidator(check_interval)]


STRICT = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)
"""What makes a block of a recipe frozen, and strict in its types and its keys."""


def check_pattern(pattern: str) -> str:
    """Returns `pattern`; raises ValueError where it is no regular expression."""
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{pattern} is not a regular expression: {error}") from error
    return pattern
