"""From a file and overrides to a Recipe or a Study, or to every problem at once."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from finetune.errors import RecipeError, SettingError, did_you_mean
from finetune.keys import flatten
from finetune.recipe.merging import NAMED, expanded, merged, named, normalized
from finetune.recipe.nodes import Node, Place, Problem, parse
from finetune.recipe.plugins import run_plugins
from finetune.recipe.problems import report, translate
from finetune.recipe.rungs import problems_on
from finetune.recipe.schema import Recipe
from finetune.recipe.study import MOST_RUNS, SEED, Setting, Study, StudyBlock, for_tuning

MOST_BYTES = 256 * 1024
MOST_BASES = 20
SUFFIXES = (".yaml", ".yml")
TABLES = (".csv", ".tsv", ".jsonl", ".parquet")


def load_recipe(path: Path | str, overrides: Sequence[str] = (), *, allow_plugins: bool = False) -> Recipe:
    """Returns the recipe in the file `path`, its bases and `overrides` ("schedule.gamma=0.5") applied.

    Paths of inputs are relative to the file they are written in, in an override to the current directory, and absolute
    in the result. The files that it names under `plugins` are run, if
    `allow_plugins`. Raises RecipeError, which lists every problem with its file and line, and for a study.
    """
    root, study, problems = _read_whole(Path(path), overrides, allow_plugins=allow_plugins)
    if study is not None:
        remedy = "run it with finetune study, or as one run with study=null"
        problems.append(Problem(study.place, "study", f"makes this a study of many runs; {remedy}"))
    recipe, found = _validated(root, problems)
    if recipe is None or problems:
        raise RecipeError(report([*problems, *found], title=str(path)))
    return recipe


def load_study(path: Path | str, overrides: Sequence[str] = (), *, allow_plugins: bool = False) -> Study:
    """Returns the study in the file `path`, every one of its settings checked; `overrides` are as for a recipe.

    Raises RecipeError, which lists every problem with its file and line, and for a recipe without a study.
    """
    root, node, problems = _read_whole(Path(path), overrides, allow_plugins=allow_plugins)
    if node is None:
        example = "study: {grid: {schedule: [cosine, linear], training.seed: [0, 1, 2]}}"
        problems.append(Problem(root.place, "study", f"required, and missing; such as {example}"))
        raise RecipeError(report(problems, title=str(path)))
    study, found = _read_study(root, node, problems)
    if study is None or problems:
        raise RecipeError(report([*problems, *found], title=str(path)))
    return study


def read_settings(path: Path | str) -> dict[str, Any]:
    """Returns each dotted key in the file `path` with its value, unchecked; raises RecipeError where it is no YAML."""
    root, problems = _read(Path(path), ())
    if problems:
        raise RecipeError(report(problems, title=str(path)))
    return flatten(root.plain())


def is_study(path: Path | str, overrides: Sequence[str] = ()) -> bool:
    """Whether the file `path`, with its bases and `overrides`, has a study; False where it can't be read."""
    root, _ = _read(Path(path), ())
    over, _ = _read_overrides(overrides)
    return isinstance(root.value, dict) and _taken_out(merged(root, over))[1] is not None


def _read_whole(
    path: Path, overrides: Sequence[str], *, allow_plugins: bool
) -> tuple[Node, Node | None, list[Problem]]:
    """Returns the recipe's tree, complete but for its study, that study, and the problems so far."""
    root, problems = _read(path, ())
    over, override_problems = _read_overrides(overrides)
    problems += override_problems
    if not isinstance(root.value, dict):
        raise RecipeError(report(problems, title=str(path)))
    root, study = _taken_out(Node(merged(root, over).value, root.place))
    root = named(root)
    root.value.setdefault("name", Node(path.stem, root.place))
    problems += run_plugins(root.value.get("plugins"), allowed=allow_plugins)
    return root, study, problems


def _taken_out(root: Node) -> tuple[Node, Node | None]:
    study = root.value.get("study")
    rest = {key: node for key, node in root.value.items() if key != "study"}
    return Node(rest, root.place), study if study is not None and study.value is not None else None


def _validated(root: Node, problems: Sequence[Problem]) -> tuple[Recipe | None, list[Problem]]:
    """Returns the recipe, or what is wrong with it beyond `problems`, which already were found in it."""
    # What is wrong in YAML already has its problem; a value put in its place would only add others.
    unsure = {problem.path.partition(".")[0] for problem in problems}
    if "plugins" in unsure:
        unsure |= {"schedule", "task", "evaluation"}
    try:
        return Recipe.model_validate_json(json.dumps(root.plain())), []
    except ValidationError as error:
        found = translate(error, root)
        return None, [problem for problem in found if problem.path.partition(".")[0] not in unsure]


def _read_study(root: Node, node: Node, problems: Sequence[Problem]) -> tuple[Study | None, list[Problem]]:
    try:
        block = StudyBlock.model_validate_json(json.dumps({"study": node.plain()})).study
    except ValidationError as error:
        return None, translate(error, Node({"study": node}, node.place))
    grid = {key: values.value for key, values in node.value["grid"].value.items()}
    seeds = tuple(value.plain() for value in grid.pop(SEED, ())) or _own_seed(root)
    for seed in seeds:
        if type(seed) is not int or not 0 <= seed < 2**32:
            rule = f"{seed!r} is not a seed, a whole number from 0 to 2³² − 1"
            return None, [Problem(node.place, f"study.grid.{SEED}", rule)]
    count = math.prod(map(len, grid.values())) * (len(seeds) + (block.tuning.runs if block.tuning else 0))
    if count > MOST_RUNS:
        rule = f"makes {count:,} runs, more than {MOST_RUNS:,}; vary less, or cut it into several studies"
        return None, [Problem(node.place, "study.grid", rule)]
    settings, found = [], dict[Problem, None]()
    for values in itertools.product(*grid.values()):
        chosen = dict(zip(grid, values, strict=True))
        tree, wrong = _with_values(root, chosen)
        recipe, more = _validated(_with_values(tree, {SEED: Node(seeds[0], node.place)})[0], problems)
        found |= dict.fromkeys([*wrong, *more])
        if recipe is not None:
            settings.append(Setting({key: value.plain() for key, value in chosen.items()}, recipe))
    if found or not settings:
        return None, list(found)
    return _checked(Study(settings[0].recipe.name, block, tuple(settings), seeds), node)


def _own_seed(root: Node) -> tuple[Any, ...]:
    seed = root.nearest(("training", "seed"))
    return (seed.value if isinstance(seed.value, int) else 0,)


def _with_values(root: Node, values: Mapping[str, Node]) -> tuple[Node, list[Problem]]:
    """Returns the recipe's tree with the values of one cell put in, shorter keys first, and what can't be."""
    problems: list[Problem] = []
    for key in sorted(values, key=lambda key: key.count(".")):
        over = Node({}, values[key].place)
        problems += _put(over, key.split("."), values[key])
        root = merged(root, normalized(over, Path(values[key].place.file or ".").parent))
    return named(root), problems


def _checked(study: Study, node: Node) -> tuple[Study | None, list[Problem]]:
    names = {setting.recipe.schedule.name for setting in study.settings}
    if study.block.reference is not None and study.block.reference not in names:
        choices = ", ".join(sorted(names))
        wrong = f"{study.block.reference} is none of the schedules, {choices}"
        return None, [Problem(node.place, "study.reference", wrong)]
    twins = _twins(study.settings, [setting.recipe for setting in study.settings])
    if twins:
        return None, [Problem(node.place, "study.grid", f"{twins} make the same run; keep one")]
    problem = _unfit_for_halving(study)
    if problem is not None:
        place = node.nearest(("tuning", "halving")).place
        return None, [Problem(place, problem.field, problem.problem)]
    return study, []


def _twins(settings: Sequence[Setting], recipes: Sequence[Recipe]) -> str:
    """Returns the values of the first two settings whose recipes are the same; "" where there are none."""
    first: dict[str, Setting] = {}
    for setting, recipe in zip(settings, recipes, strict=True):
        twin = first.setdefault(json.dumps(recipe.to_dict(), sort_keys=True), setting)
        if twin is not setting:
            return f"{_in_words(twin.values)} and {_in_words(setting.values)}"
    return ""


def _unfit_for_halving(study: Study) -> SettingError | None:
    """Returns what of a setting can't be rescaled to a shorter rung, or which two are the same run once they are."""
    for rung in study.rungs[:-1]:
        try:
            twins = _twins(study.settings, [for_tuning(setting.recipe, rung) for setting in study.settings])
            with problems_on(rung):
                if twins:
                    raise SettingError("", f"{twins} would be the same run; give their durations as shares of the run")
        except SettingError as error:
            return error
    return None


def _in_words(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _read(path: Path, children: tuple[Path, ...]) -> tuple[Node, list[Problem]]:
    """Returns the tree of the file `path` over those of its bases; `children` are the files that inherit from it."""
    place = Place(str(path))
    if path.suffix.lower() in TABLES:
        remedy = f"finetune new RECIPE.yaml --data {path} proposes a recipe for it"
        return Node(None, place), [Problem(place, "", f"a table, and no recipe; {remedy}")]
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        text = content[:MOST_BYTES].decode("utf-8-sig")
    except (OSError, ValueError) as error:
        return Node(None, place), [Problem(place, "", _unreadable(path, error))]
    if len(content) > MOST_BYTES:
        return Node(None, place), [Problem(place, "", f"longer than {MOST_BYTES // 1024} KiB, which no recipe is")]
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
    file = path.parent / expanded(base.value)
    if file.suffix.lower() not in SUFFIXES:
        return nothing, [Problem(base.place, "base", f"{base.value} is no recipe, whose name ends in .yaml or .yml")]
    if os.path.realpath(file) in map(os.path.realpath, children):
        return nothing, [Problem(base.place, "base", f"{base.value} inherits from itself")]
    if len(children) > MOST_BASES:
        return nothing, [Problem(base.place, "base", f"more than {MOST_BASES} recipes inherit from each other")]
    if not os.path.isfile(file):  # noqa: PTH113 - Path's own fails for a name that is too long
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
