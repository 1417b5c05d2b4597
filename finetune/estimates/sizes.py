"""Amounts of memory, as people write them; devices, and seconds."""

from __future__ import annotations

import math
import re

from finetune.errors import SettingError

UNITS: dict[str, int] = {
    f"{prefix}{unit}b": base**power
    for unit, base in (("", 1000), ("i", 1024))
    for power, prefix in enumerate("kmgt", start=1)
} | {"b": 1}
MOST_DEVICES = 100_000


def parse_memory(text: str) -> int:
    """Returns the bytes that `text` says, such as 80GB (10⁹ each), 40 GiB (2³⁰ each) or 500MB; raises SettingError."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]+)\s*", text)
    unit = UNITS.get(found[2].lower()) if found else None
    if found is None or unit is None:
        raise SettingError(
            "--memory", f'"{text}" is no amount of memory: give a number and a unit, such as 80GB, 40GiB or 500MB'
        )
    size = round(float(found[1]) * unit)
    if size < 1:
        raise SettingError("--memory", f'"{text}" is none: give what a device has, such as 80GB')
    return size


def check_devices(count: int) -> int:
    """Returns `count` devices; raises SettingError where it can't be a number of them."""
    if not 1 <= count <= MOST_DEVICES:
        raise SettingError("--devices", f"{count} must be from 1 to {MOST_DEVICES:,}")
    return count


def check_seconds(seconds: float) -> float:
    """Returns the `seconds` of an update; raises SettingError where none can take them."""
    if not (seconds > 0 and math.isfinite(seconds)):
        raise SettingError("--seconds-per-update", f"{seconds:g} must be above 0, and finite")
    return seconds


def in_gb(size: float) -> str:
    """Returns bytes in units of 10⁹, with as many digits as matter."""
    gb = size / 10**9
    return f"{gb:,.0f}" if gb >= 100 else f"{gb:.1f}" if gb >= 10 else f"{gb:.2f}"
