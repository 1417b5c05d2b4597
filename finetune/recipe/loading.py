"""From a file and overrides to a Recipe, or to every problem at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from finetune.errors import RecipeError, did_you_mean
from finetune.recipe.merging import NAMED, merged, named, normalized
from finetune.recipe.nodes import Node, Place, Problem, parse
from finetune.recipe.plugins import run_plugins
from finetune.recipe.problems import report, translate
from finetune.recipe.schema import Recipe


def load_recipe(path: Path | str, overrides: Sequence[str] = (), *, allow_plugins: bool = False) -> Recipe:
    """Returns the recipe in the file `path`, its bases and `overrides` ("schedule.gamma=0.5") applied.

    Paths of inputs are relative to the file they are written in, in an override to the current directory, and absolute
    in the result. The files that it names under `plugins` are run, if
    `allow_plugins`. Raises RecipeError, which lists every problem with its file and line.
    """
    path = Path(path)
    title = str(path)
    root, problems = _read(path, ())
    over, override_problems = _read_overrides(overrides)
    problems += override_problems
    if isinstance(root.value, dict):
        root = Node(named(merged(root, over)).value, root.place)
        root.value.setdefault("name", Node(path.stem, root.place))
        problems += run_plugins(root.value.get("plugins"), allowed=allow_plugins)
        # What is wrong in YAML already has its problem; a value put in its place would only add others.
        unsure = {problem.path.partition(".")[0] for problem in problems}
        if "plugins" in unsure:
            unsure.add("schedule")
        try:
            recipe = Recipe.model_validate_json(json.dumps(root.plain()))
        except ValidationError as error:
            problems += [problem for problem in translate(error, root) if problem.path.partition(".")[0] not in unsure]
        else:
            if not problems:
                return recipe
    raise RecipeError(report(problems, title=title))


def _read(path: Path, children: tuple[Path, ...]) -> tuple[Node, list[Problem]]:
    """Returns the tree of the file `path` over those of its bases; `children` are the files that inherit from it."""
    place = Place(str(path))
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        return Node(None, place), [Problem(place, "", _unreadable(path, error))]
    root, problems = parse(text, place)
    if problems and root.value is None:
        return root, problems
    if not isinstance(root.value, dict):
        what = "empty" if root.value is None else "not a mapping"
        return Node(None, place), [*problems, Problem(place, "", f"{what}; a recipe is a mapping of keys to values")]
    root = normalized(root, path.parent)
    base = root.value.pop("base", None)
    if base is None:
        return root, problems
    inherited, base_problems = _read_base(base, path, (*children, path))
    return merged(inherited, root), [*problems, *base_problems]


def _read_base(base: Node, path: Path, children: tuple[Path, ...]) -> tuple[Node, list[Problem]]:
    nothing = Node({}, base.place)
    if not isinstance(base.value, str):
        return nothing, [Problem(base.place, "base", "must be the path of one recipe, relative to this one")]
    file = path.parent / Path(base.value).expanduser()
    if any(file.resolve() == child.resolve() for child in children):
        return nothing, [Problem(base.place, "base", f"{base.value} inherits from itself")]
    if not file.is_file():
        return nothing, [Problem(base.place, "base", _unreadable(file, FileNotFoundError()))]
    inherited, problems = _read(file, children)
    if not isinstance(inherited.value, dict):
        return nothing, problems
    return Node({key: node for key, node in inherited.value.items() if key != "name"}, inherited.place), problems


def _unreadable(path: Path, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        there = [file.name for file in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        return f"{path}: no such file{did_you_mean(path.name, there)}"
    if isinstance(error, OSError):
        return f"can't be read: {error.strerror}"
    return "not UTF-8 text"


def _read_overrides(overrides: Sequence[str]) -> tuple[Node, list[Problem]]:
    """Returns one tree of all overrides, in whatever order they come."""
    problems: list[Problem] = []
    tree = Node({}, Place(""))
    for override in overrides:
        place = Place("", override=override)
        key, equals, text = override.partition("=")
        if not equals or not all(key.split(".")):
            problems.append(Problem(place, "", "not KEY=VALUE, such as schedule.gamma=0.5"))
            continue
        value, found = parse(text, place)
        problems += found
        if not found:
            problems += _put(tree, key.split("."), value)
    return normalized(tree, Path.cwd()), problems


def _put(tree: Node, path: Sequence[str], value: Node) -> list[Problem]:
    """Puts `value` at `path` into `tree`, whose values are dicts down to there."""
    if len(path) == 1 and path[0] in NAMED and isinstance(value.value, str):
        path = [path[0], "name"]
    node = tree
    for part in path[:-1]:
        node = node.value.setdefault(part, Node({}, value.place))
        if not isinstance(node.value, dict):
            return [Problem(value.place, "", f"{part} is given a value of its own by another override")]
    if path[-1] in node.value:
        return [Problem(value.place, "", f"{'.'.join(path)} is given twice")]
    node.value[path[-1]] = value
    return []
