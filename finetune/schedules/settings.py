"""Settings that check themselves: each field of a schedule carries its default, its rule and what it means."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from typing import Any

from finetune.errors import SettingError, did_you_mean
from finetune.schedules.durations import DURATION_SCHEMA, parse_duration, rescale_duration

Rule = Callable[[str, Any], None]
"""(name of the field, value) ▶ nothing, or a SettingError that names the field, the value and the rule."""


def setting(default: Any, rule: Rule, about: str, *, quiet: bool = False) -> Any:
    """Returns a dataclass field with its rule and a line about it; at its default, a `quiet` one isn't recorded."""
    return dataclasses.field(default=default, metadata={"rule": rule, "about": about, "quiet": quiet})


def problems_of(instance: Any) -> list[SettingError]:
    """Returns what the rules of a dataclass instance's fields object to, in the order of the fields.

    A field made without `setting` has no rule.
    """
    problems = []
    for field in dataclasses.fields(instance):
        try:
            field.metadata.get("rule", anything)(field.name, getattr(instance, field.name))
        except SettingError as error:
            problems.append(error)
    return problems


def rescaled(field: dataclasses.Field[Any], value: Any, by: Fraction) -> Any:
    """Returns what `value` of a field is in a run `by` times as long: its durations are rescaled, all else stays.

    Raises SettingError where less than one update is left of a duration, and for a whole number without a rule, which
    may count updates or not.
    """
    rule = field.metadata.get("rule")
    if rule is None and isinstance(value, int) and not isinstance(value, bool):
        raise SettingError(
            field.name,
            f"{value} may count updates, and no rule says whether; define the field by `setting`, or the schedule's "
            "own `rescaled`",
        )
    while isinstance(rule, partial) and rule.func in (_optional, _list_of):
        rule = rule.args[0]
    if rule not in (duration, interval) or value is None:
        return value
    if isinstance(value, tuple):
        return tuple(rescale_duration(item, by, field=field.name) for item in value)
    return rescale_duration(value, by, field=field.name)


def anything(field: str, value: Any) -> None:
    """Whatever there is."""


def number(least: float = -math.inf, most: float = math.inf, *, above: float | None = None) -> Rule:
    """A finite number from `least` to `most`, or greater than `above`."""
    return partial(_number, least, most, above)


def _number(least: float, most: float, above: float | None, field: str, value: Any) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
    if not is_number or not least <= value <= most or (above is not None and value <= above):
        if above is not None:
            words = f"above {above:g}" + (f", up to {most:g}" if most < math.inf else "")
        else:
            words = f"from {least:g} to {most:g}" if most < math.inf else f"of {least:g} or more"
        raise SettingError(field, f"{value!r} must be a number {words}")


fraction = number(0, 1)
ratio = number(most=1, above=0)
positive = number(above=0)


def whole(least: int) -> Rule:
    """A whole number of `least` or more."""
    return partial(_whole, least)


def _whole(least: int, field: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise SettingError(field, f"{value!r} must be a whole number of {least} or more")


def flag(field: str, value: Any) -> None:
    """True or false."""
    if not isinstance(value, bool):
        raise SettingError(field, f"{value!r} must be true or false")


def duration(field: str, value: Any) -> None:
    """A duration, 0 or more."""
    parse_duration(value, field=field)


def interval(field: str, value: Any) -> None:
    """A duration above 0."""
    if parse_duration(value, field=field).amount == 0:
        raise SettingError(field, f"{value} is no interval: give at least 1 update")


def one_of(choices: Sequence[str], also: dict[str, str] | None = None) -> Rule:
    """One of `choices`; `also` names choices by what they are called elsewhere."""
    return partial(_one_of, choices, also or {})


def _one_of(choices: Sequence[str], also: dict[str, str], field: str, value: Any) -> None:
    if value not in choices:
        known = also.get(value) if isinstance(value, str) else None
        hint = f" (here it is {known})" if known else did_you_mean(str(value), choices)
        raise SettingError(field, f'"{value}" is not one of {", ".join(choices)}{hint}')


def optional(rule: Rule) -> Rule:
    """None, or what `rule` allows."""
    return partial(_optional, rule)


def _optional(rule: Rule, field: str, value: Any) -> None:
    if value is not None:
        rule(field, value)


def list_of(rule: Rule) -> Rule:
    """A list of one or more values that `rule` allows."""
    return partial(_list_of, rule)


def _list_of(rule: Rule, field: str, value: Any) -> None:
    if not isinstance(value, tuple) or not value:
        raise SettingError(field, f"{value!r} must be a list of one or more")
    for item in value:
        rule(field, item)


def json_schema(rule: Rule) -> dict[str, Any]:
    """Returns what `rule` allows, as a JSON schema; {}, which is anything, for a rule from elsewhere."""
    if isinstance(rule, partial):
        return _COMPOSED[rule.func](*rule.args) if rule.func in _COMPOSED else {}
    if rule is flag:
        return {"type": "boolean"}
    return DURATION_SCHEMA.copy() if rule in (duration, interval) else {}


def _number_schema(least: float, most: float, above: float | None) -> dict[str, Any]:
    bounds = {"minimum": least, "maximum": most, "exclusiveMinimum": above}
    return {
        "type": "number",
        **{key: value for key, value in bounds.items() if value is not None and abs(value) < math.inf},
    }


_COMPOSED: dict[Any, Callable[..., dict[str, Any]]] = {
    _number: _number_schema,
    _whole: lambda least: {"type": "integer", "minimum": least},
    _one_of: lambda choices, also: {"enum": [*choices]},
    _optional: lambda rule: {"anyOf": [json_schema(rule), {"type": "null"}]},
    _list_of: lambda rule: {"type": "array", "minItems": 1, "items": json_schema(rule)},
}
