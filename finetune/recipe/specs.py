"""A schedule in one line of text, as on the command line: "wsd cooldown=10% shape=linear", or a recipe's."""

from __future__ import annotations

import shlex
from pathlib import Path

from finetune.errors import SettingError, settings_within
from finetune.recipe.loading import load_recipe
from finetune.recipe.nodes import Place, parse
from finetune.schedules import Schedule, as_schedule


def read_schedule(spec: str, *, allow_plugins: bool = False) -> Schedule:
    """Returns the schedule that `spec` describes: NAME [KEY=VALUE]…, a YAML block, or the path of a recipe.

    Raises SettingError or RecipeError for what is none of these.
    """
    if spec.endswith((".yaml", ".yml")):
        return load_recipe(Path(spec), allow_plugins=allow_plugins).schedule
    if spec.lstrip().startswith("{"):
        return as_schedule(_value(spec, spec))
    try:
        name, *words = shlex.split(spec)
    except ValueError as error:
        raise SettingError(spec, f"can't be read: {error}; give NAME KEY=VALUE …") from error
    settings = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            raise SettingError(spec, f'"{word}" is not KEY=VALUE, such as floor=0.1')
        settings[key] = _value(text, spec)
    with settings_within(spec):
        return as_schedule({"name": name, **settings})


def _value(text: str, spec: str) -> object:
    node, problems = parse(text, Place(""))
    if problems:
        raise SettingError(spec, problems[0].message)
    return node.plain()
