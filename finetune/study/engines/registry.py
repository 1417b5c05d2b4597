"""The table of engines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from finetune.errors import SettingError, did_you_mean
from finetune.study.engines.base import Engine
from finetune.study.engines.local import LocalEngine
from finetune.study.engines.on_ray import RayEngine

ENGINES: dict[str, type[Engine]] = {"local": LocalEngine, "ray": RayEngine}
"""The engines by name; a new one is a class and a row here."""


def make_engine(name: str, options: Mapping[str, Any]) -> Engine:
    """Returns the engine of that name; of its `options`, those that are None are left at their defaults.

    Raises SettingError for an unknown name, and for an option that the engine doesn't have.
    """
    kind = ENGINES.get(name)
    if kind is None:
        raise SettingError("engine", f'"{name}" is not one of {", ".join(ENGINES)}{did_you_mean(name, ENGINES)}')
    given = {key: value for key, value in options.items() if value is not None}
    for key in given:
        if key not in _options(kind):
            others = [other for other, each in ENGINES.items() if key in _options(each)]
            raise SettingError(key, f"goes with --engine {' or '.join(others)}; {name} has no such option")
    return kind(**given)


def _options(kind: Any) -> set[str]:
    return {field.name for field in fields(kind)}
