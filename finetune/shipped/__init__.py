"""The recipes and configurations that come with the package, found by name wherever it is installed.

The folders here are links to those of the repository; in a wheel they are copies.
"""

from __future__ import annotations

from pathlib import Path

from finetune.errors import RecipeError, did_you_mean

_HERE = Path(__file__).resolve().parent
SUFFIX = ".yaml"


def shipped_recipes() -> dict[str, Path]:
    """Returns each recipe by its name, the real path of its file."""
    return _by_name(_HERE / "recipes")


def shipped_configs() -> dict[str, Path]:
    """Returns each configuration of Accelerate by its name, the real path of its file."""
    return _by_name(_HERE / "accelerate_configs")


def _by_name(folder: Path) -> dict[str, Path]:
    return {path.stem: path.resolve() for path in sorted(folder.glob(f"*{SUFFIX}"))}


def find_recipe(given: str) -> Path:
    """Returns the path of a recipe that was given by its path, or by the name of one that comes with the package.

    A file that is there goes first, and what has a suffix or a folder is a path. Raises RecipeError for a name that
    neither is.
    """
    path = Path(given)
    if path.suffix or len(path.parts) != 1 or path.exists():
        return path
    recipes = shipped_recipes()
    if given not in recipes:
        file = f"{given}{SUFFIX}"
        near = f" (did you mean {file}?)" if Path(file).is_file() else did_you_mean(given, recipes)
        raise RecipeError(
            f"{given}: no such file, nor a recipe that comes with the package{near}; there are {', '.join(recipes)}"
        )
    return recipes[given]
