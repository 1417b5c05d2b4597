"""Durations such as 200 updates, "10%" of the run and "0.5ep": the one place where units become steps."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from finetune.errors import SettingError

DurationLike = int | str
"""A duration as written: 200 or "200" is updates, "10%" a share of the run, "0.5ep" epochs."""

_FORM = re.compile(r"([0-9]*\.?[0-9]+)(%|ep)?")
_FORMS = 'updates (200), a share of the run ("10%") or epochs ("0.5ep")'


@dataclass(frozen=True)
class Duration:
    """A length of training: `amount` updates, epochs, or share of the run from 0 to 1, held exactly.

    `field` is the setting it was read from, which errors name; two durations of the same length are equal without it.
    """

    amount: Fraction
    unit: Literal["updates", "share", "epochs"]
    field: str = dataclasses.field(compare=False)

    def __str__(self) -> str:
        match self.unit:
            case "updates":
                return str(self.amount)
            case "share":
                return f"{float(100 * self.amount):g}%"
            case "epochs":
                return f"{float(self.amount):g}ep"

    def steps(self, *, total_steps: int, updates_per_epoch: int | None = None) -> int:
        """Returns the duration in updates: ⌈share · total_steps⌉, or ⌈epochs · updates_per_epoch⌉.

        The products are exact fractions before they are rounded up, so 7% of 100 is 7, where `math.ceil(0.07 * 100)` is
        8. The result may exceed `total_steps`. Raises SettingError for epochs without `updates_per_epoch`.
        """
        match self.unit:
            case "updates":
                return int(self.amount)
            case "share":
                return math.ceil(self.amount * total_steps)
            case "epochs":
                if updates_per_epoch is None or updates_per_epoch < 1:
                    raise SettingError(
                        self.field,
                        f'"{self}" counts epochs, and how many updates make one is not known here: '
                        "pass updates_per_epoch (at least 1), or give updates or a share of the run",
                    )
                return math.ceil(self.amount * updates_per_epoch)

    def run_steps(self, *, updates_per_epoch: int) -> int:
        """Returns the length of a whole run in updates; part of an epoch is rounded up to whole updates.

        Raises SettingError for a share, since a run can't be a share of itself, and for a run of no updates.
        """
        if self.unit == "share":
            raise SettingError(
                self.field,
                f'"{self}" is a share of the run, whose length is set here: give epochs ("3ep") or updates (200)',
            )
        if self.amount == 0:
            raise SettingError(self.field, f"{self} leaves nothing to train: give at least 1 update")
        return self.steps(total_steps=0, updates_per_epoch=updates_per_epoch)


def parse_duration(value: DurationLike, *, field: str) -> Duration:
    """Reads 200 or "200" as updates, "10%" as a share of the run, "0.5ep" as epochs.

    Raises SettingError, naming `field`, for anything else: negative numbers, shares above 100%, and numbers such as 0.1
    that have no unit and aren't whole.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise SettingError(field, f"{value!r} is not a duration: give {_FORMS}")
    text = str(value).strip()
    if re.match(r"-\s*[0-9.]", text):
        raise SettingError(field, f"{text} is negative: a duration is 0 or more, in {_FORMS}")
    match = _FORM.fullmatch(text)
    if match is None:
        raise SettingError(field, f'"{text}" is not a duration: give {_FORMS}')
    amount, unit = Fraction(match[1]), match[2]
    if unit == "ep":
        return Duration(amount, "epochs", field)
    if unit == "%":
        if amount > 100:
            raise SettingError(field, f'"{text}" is longer than the run: a share is at most "100%"')
        return Duration(amount / 100, "share", field)
    if "." in text:
        raise SettingError(field, f"{text} has no unit, and updates are whole: did you mean {_with_unit(amount)}?")
    return Duration(amount, "updates", field)


def _with_unit(amount: Fraction) -> str:
    if amount.denominator == 1:
        return str(amount)
    return f'"{float(100 * amount):g}%"' if amount < 1 else f'"{float(amount):g}ep"'
