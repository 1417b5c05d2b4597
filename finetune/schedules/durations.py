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
"""A duration as written: 200 or "200" updates, "10%" of the run, "0.5ep", "64000 samples" or "2M tokens"."""

_FORM = re.compile(r"((?:[0-9]+\.)?[0-9]+|\.[0-9]+)\s*(%|ep|(?:([kMB])\s*)?(samples|tokens))?")
DURATION_SCHEMA = {
    "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": f"^ *{_FORM.pattern} *$"}]
}
"""What is a duration, as a JSON schema."""
_FORMS = 'updates (200), a share of the run ("10%"), epochs ("0.5ep"), "64000 samples" or "2M tokens"'
LONGEST = 30
_MULTIPLES = {None: 1, "k": 10**3, "M": 10**6, "B": 10**9}


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run of `total_steps` updates, and what one of them, or an epoch, holds; None where that is not known."""

    total_steps: int
    updates_per_epoch: int | None = None
    samples_per_update: Fraction | int | None = None
    tokens_per_update: Fraction | int | None = None


@dataclass(frozen=True)
class Duration:
    """A length of training: `amount` of `unit`, a share being from 0 to 1, held exactly.

    `field` is the setting it was read from, which errors name; two durations of the same length are equal without it.
    """

    amount: Fraction
    unit: Literal["updates", "share", "epochs", "samples", "tokens"]
    field: str = dataclasses.field(compare=False)

    def __str__(self) -> str:
        match self.unit:
            case "updates":
                return str(self.amount)
            case "share":
                return f"{float(100 * self.amount):g}%"
            case "epochs":
                return f"{float(self.amount):g}ep"
            case _:
                return f"{float(self.amount):.12g} {self.unit}"

    def exact(self, run: Run) -> Fraction:
        """Returns the duration in updates as an exact fraction: 7% of 100 is 7, and 7% of 10 is 7/10.

        Raises SettingError for epochs, samples or tokens where `run` doesn't know how many an update makes.
        """
        match self.unit:
            case "updates":
                return self.amount
            case "share":
                return self.amount * run.total_steps
            case "epochs":
                return self.amount * self._known(run.updates_per_epoch, "updates_per_epoch")
            case "samples":
                return self.amount / self._known(run.samples_per_update, "samples_per_update")
            case "tokens":
                return self.amount / self._known(run.tokens_per_update, "tokens_per_update")

    def steps(self, run: Run) -> int:
        """Returns the duration in updates, part of an update counting as one; it may exceed the run's."""
        return math.ceil(self.exact(run))

    def run_steps(
        self,
        *,
        updates_per_epoch: int,
        samples_per_update: Fraction | int | None = None,
        tokens_per_update: Fraction | int | None = None,
    ) -> int:
        """Returns the length of a whole run in updates; part of an update is rounded up to a whole one.

        Raises SettingError for a share, since a run can't be a share of itself, and for a run of no updates.
        """
        if self.unit == "share":
            raise SettingError(
                self.field,
                f'"{self}" is a share of the run, whose length is set here: give epochs ("3ep") or updates (200)',
            )
        if self.amount == 0:
            raise SettingError(self.field, f"{self} leaves nothing to train: give at least 1 update")
        return self.steps(
            Run(
                total_steps=0,
                updates_per_epoch=updates_per_epoch,
                samples_per_update=samples_per_update,
                tokens_per_update=tokens_per_update,
            )
        )

    def _known(self, amount: Fraction | int | None, name: str) -> Fraction | int:
        if amount is None or amount <= 0:
            raise SettingError(
                self.field,
                f'"{self}" counts {self.unit}, and {name.replace("_", " ")} are not known here: '
                f"pass {name} (above 0), or give updates or a share of the run",
            )
        return amount


def parse_duration(value: DurationLike, *, field: str) -> Duration:
    """Reads 200 or "200" as updates, "10%" as a share of the run, "0.5ep" as epochs, "64k samples" and "2M tokens".

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
    if len(match[1]) > LONGEST:
        raise SettingError(field, f"{len(match[1]):,} digits are too many for a duration; {LONGEST} are the most")
    amount, unit = Fraction(match[1]), match[2]
    if unit == "ep":
        return Duration(amount, "epochs", field)
    if unit == "%":
        if amount > 100:
            raise SettingError(field, f'"{text}" is longer than the run: a share is at most "100%"')
        return Duration(amount / 100, "share", field)
    if unit is not None:
        return Duration(amount * _MULTIPLES[match[3]], "samples" if match[4] == "samples" else "tokens", field)
    if "." in text:
        raise SettingError(field, f"{text} has no unit, and updates are whole: did you mean {_with_unit(amount)}?")
    return Duration(amount, "updates", field)


def rescale_duration(value: DurationLike, by: Fraction, *, field: str) -> DurationLike:
    """Returns `value` for a run that is `by` times as long, in the same unit; a share of the run stays as it is.

    Updates are rounded up; epochs, samples and tokens are cut after 12 decimals, so that they count as many updates as
    if they were exact. Raises SettingError, naming `field`, where less than one update is left.
    """
    duration = parse_duration(value, field=field)
    amount = duration.amount * by
    if duration.unit == "share" or not amount:
        return value
    if duration.unit != "updates":
        return f"{_decimal(amount)}{'ep' if duration.unit == 'epochs' else f' {duration.unit}'}"
    if amount < 1:
        updates = f"{duration} update{'s' * (duration.amount != 1)}"
        raise SettingError(
            field,
            f"{updates} would be less than 1 in a run {by} as long: give more, or count epochs "
            '("0.5ep") or a share of the run ("10%")',
        )
    return math.ceil(amount)


def _decimal(amount: Fraction, digits: int = 12) -> str:
    whole, rest = divmod(math.floor(amount * 10**digits), 10**digits)
    return f"{whole}.{rest:0{digits}d}".rstrip("0").rstrip(".")


def _with_unit(amount: Fraction) -> str:
    if amount.denominator == 1:
        return str(amount)
    return f'"{float(100 * amount):g}%"' if amount < 1 else f'"{float(amount):g}ep"'
