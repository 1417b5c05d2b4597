"""pydantic's errors in a recipe user's words, each at its place."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ValidationError

from finetune.errors import SettingError, did_you_mean
from finetune.recipe.adapter import Adapter
from finetune.recipe.layers import LayerSettings, Unfreezing
from finetune.recipe.legacy import OUR_NAMES
from finetune.recipe.merging import NAMED, settings_of
from finetune.recipe.nodes import Node, Place, Problem
from finetune.recipe.regularisation import Averaging, EarlyStopping, Ema, Regularisation
from finetune.recipe.schema import (
    LOCAL_DATA,
    CheckpointSettings,
    EvaluationSettings,
    HubData,
    ModelSource,
    Recipe,
    TrainingSettings,
    data_kind,
)
from finetune.recipe.study import StudySettings, Tuning
from finetune.schedules import parse_duration

Path = tuple[str | int, ...]

_BLOCKS: dict[str, type[BaseModel]] = {
    "model": ModelSource,
    "adapter": Adapter,
    "training": TrainingSettings,
    "regularisation": Regularisation,
    "averaging": Averaging,
    "averaging.ema": Ema,
    "evaluation": EvaluationSettings,
    "evaluation.early_stopping": EarlyStopping,
    "checkpoints": CheckpointSettings,
    "layers": LayerSettings,
    "layers.unfreeze": Unfreezing,
    "study": StudySettings,
    "study.tuning": Tuning,
}
MISSING = "required, and missing"
ELSEWHERE = "unknown key; here it is "
CHOICES = "; it can be "
_TOLD_BY: dict[str, str | tuple[str, ...]] = {
    "model": ("model.hub", "model.path"),
    "data": ("data.hub", "data.files"),
    "data.hub": "data.files",
    "optimizer": "optimizer.learning_rate",
    "optimizer.learning_rate": "optimizer.learning_rate",
}
"""A key that is missing ▶ how what another key is called here begins, if that tells it."""
MOST_PROBLEMS = 50
LONGEST_LINE = 600
_SPLITS = ["train", "validation", "test"]
_UNION_MEMBERS = {"int", "str"}
_EXPECTED = {
    "bool_type": "true or false",
    "dataclass_type": "a block of settings",
    "dict_type": "a block of settings",
    "float_type": "a number",
    "int_type": "a whole number",
    "model_type": "a block of settings",
    "path_type": "a path",
    "string_type": "text",
    "tuple_type": "a list",
}


def translate(error: ValidationError, root: Node) -> list[Problem]:
    """Returns the problems in `error`, which came of validating `root.plain()`."""
    problems: dict[tuple[Path, str], Problem] = {}
    for entry in error.errors():
        path = _recipe_path(entry["loc"], entry["type"])
        for final_path, message in _messages(entry, path, root):
            node = root.nearest(final_path)
            dotted = ".".join(map(str, final_path))
            problems.setdefault((final_path, message), Problem(node.place, dotted, message))
    return _each_said_once(list(problems.values()))


def _each_said_once(problems: Sequence[Problem]) -> list[Problem]:
    """Leaves out that a key is missing where another problem says to write it, and all but the first list of a block's
    keys."""
    named = [problem.message.removeprefix(ELSEWHERE) for problem in problems if ELSEWHERE in problem.message]
    kept, told = list[Problem](), set[str]()
    for problem in sorted(problems, key=lambda problem: (problem.place.override is not None, problem.place.line)):
        if problem.message == MISSING and any(each.startswith(_TOLD_BY.get(problem.path, "-")) for each in named):
            continue
        message, choices, _ = problem.message.partition(CHOICES)
        kept.append(replace(problem, message=message) if choices and problem.message in told else problem)
        told.add(problem.message)
    return kept


def _recipe_path(location: Sequence[str | int], kind: str) -> Path:
    """Returns the path as written, without the members that pydantic inserts for its unions."""
    path = list(location)
    if len(path) > 1 and (
        (path[0] in NAMED and path[1] in NAMED[str(path[0])]) or (path[0] == "data" and path[1] in ("hub", *LOCAL_DATA))
    ):
        del path[1]
    if path and path[-1] in _UNION_MEMBERS and kind.endswith("_type"):
        del path[-1]
    if path and path[-1] == "[key]":
        path = path[:-1]
    return tuple(path)


def _messages(entry: Any, path: Path, root: Node) -> Iterator[tuple[Path, str]]:
    kind, value, context = entry["type"], entry["input"], entry.get("ctx", {})
    cause = context.get("error")
    if isinstance(cause, SettingError):
        for each in cause.all:
            yield _inside(path, each.field), each.problem
    elif kind in {"extra_forbidden", "unexpected_keyword_argument"}:
        yield path, _unknown_key(path, root)
    elif kind in {"missing", "missing_argument", "missing_keyword_only_argument"}:
        yield path, MISSING
    elif kind == "union_tag_not_found":
        yield (*path, "name"), f"required, and missing; one of {', '.join(NAMED[str(path[0])])}"
    elif kind in {"union_tag_invalid", "literal_error"}:
        yield from _bad_choice(path, value, kind, context)
    else:
        yield path, _bad_value(entry, path, value)


def _inside(path: Path, field: str) -> Path:
    if not field:
        return path
    inner = tuple(int(part) if part.isdigit() else part for part in field.split("."))
    return path if path[-1:] == inner else (*path, *inner)


def _unknown_key(path: Path, root: Node) -> str:
    key = str(path[-1])
    if path[0] == "data" and key in _SPLITS and len(path) == 2:
        return f"{ELSEWHERE}data.files.{key}, or of a data set on the Hub data.splits.{key}"
    known = _known_keys(path[:-1], root)
    hint = OUR_NAMES.get(key)
    own = ".".join(map(str, path))
    if hint and hint.partition(":")[0] != own:
        return f"{ELSEWHERE}{hint}"
    return f"unknown key{did_you_mean(key, known) or CHOICES + ', '.join(known)}"


def _known_keys(path: Path, root: Node) -> list[str]:
    if not path:
        return [*Recipe.model_fields, "base", "study"]
    block = str(path[0])
    plain = root.nearest(path[:1]).plain()
    if block in NAMED and isinstance(plain, dict):
        kind = NAMED[block].get(str(plain.get("name")))
        return settings_of(kind) if kind else ["name"]
    if block == "data":
        of_kind = LOCAL_DATA.get(data_kind(plain), HubData)
        return _SPLITS if len(path) > 1 else list(of_kind.model_fields)
    dotted = ".".join(map(str, path))
    return list(_BLOCKS[dotted].model_fields) if dotted in _BLOCKS else []


def _bad_choice(path: Path, value: Any, kind: str, context: Any) -> Iterator[tuple[Path, str]]:
    if kind == "union_tag_invalid":
        choices = list(NAMED[str(path[0])])
        path, value = (*path, "name"), context["tag"]
    elif len(path) == 2 and path[0] in NAMED and path[1] == "name":
        choices = list(NAMED[str(path[0])])
    else:
        choices = [choice.strip("'") for choice in context["expected"].replace(" or ", ", ").split(", ")]
    yield path, f"{_shown(value)} is not one of {', '.join(choices)}{did_you_mean(str(value), choices)}"


def _bad_value(entry: Any, path: Path, value: Any) -> str:
    kind = entry["type"]
    location = entry["loc"]
    if location and location[-1] in _UNION_MEMBERS:
        try:
            parse_duration(value, field=str(path[-1]))
        except SettingError as error:
            return error.problem.replace(repr(value), _shown(value), 1)
    if kind == "string_pattern_mismatch":
        return f"{_shown(value)} must be letters, digits, and . _ + - after the first"
    if kind in _EXPECTED:
        return f"{_shown(value)} is not {_EXPECTED[kind]}{_quoted_number(kind, value)}{_as_list(kind, value)}"
    message = str(entry["msg"]).removeprefix("Value error, ").replace("Input should", "must")
    return f"{_shown(value)} {message}" if message.startswith("must") else message


def _quoted_number(kind: str, value: Any) -> str:
    if kind in {"float_type", "int_type"} and isinstance(value, str):
        return "; a quoted number is text, so leave the quotes out" if value.replace(".", "", 1).isdigit() else ""
    return ""


def _as_list(kind: str, value: Any) -> str:
    is_text = kind == "tuple_type" and isinstance(value, str)
    return f"; write [{', '.join(map(str.strip, value.split(',')))}]" if is_text else ""


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return f"a {'block' if isinstance(value, dict) else 'list'}"
    return json.dumps(value, ensure_ascii=False, default=str)


def report(problems: Sequence[Problem], *, title: str) -> str:
    """Returns the problems as one text under `title`, the file that was asked for, in the order of their lines.

    Of very many the first are told and the others counted; a very long line is cut in its middle.
    """
    noun = "problem" if len(problems) == 1 else "problems"
    lines = [f"{title}: {len(problems)} {noun}"]
    for problem in sorted(problems, key=lambda problem: _order(problem.place, title))[:MOST_PROBLEMS]:
        name = f"{problem.path}: " if problem.path else ""
        lines.append(f"  {_cut(_where(problem.place, title) + name + problem.message)}")
    if len(problems) > MOST_PROBLEMS:
        lines.append(f"  … and {len(problems) - MOST_PROBLEMS:,} more")
    return "\n".join(lines)


def _cut(line: str) -> str:
    half = LONGEST_LINE // 2
    return line if len(line) <= LONGEST_LINE else f"{line[:half]} … {line[-half:]}"


def _order(place: Place, title: str) -> tuple[bool, bool, str, int]:
    return place.override is not None, place.file != title, place.file, place.line


def _where(place: Place, title: str) -> str:
    if place.override is not None:
        return f"override {place.override}: "
    file = [] if place.file == title else [place.file]
    line = [str(place.line)] if place.line else []
    return f"{':'.join([*file, *line])}: " if file or line else ""
