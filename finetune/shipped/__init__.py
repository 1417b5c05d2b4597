"""The recipes and configurations that come with the package, found by name wherever it is installed.

The folders here are links to those of the repository; in a wheel they are copies.
"""

from __future__ import annotations

from pathlib import Path

from finetune.errors import RecipeError, did_you_mean

ACCELERATE_CONFIGS = Path(__file__).resolve().parent / "accelerate_configs"
RECIPES = Path(__file__).resolve().parent / "recipes"
SUFFIX = ".yaml"


def shipped_recipes() -> dict[str, Path]:
    """Returns each recipe by its name, the real path of its file."""
    return {path.stem: path.resolve() for path in sorted(RECIPES.glob(f"*{SUFFIX}"))}


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
        raise RecipeError(
            f"{given}: no such file, nor a recipe that comes with the package{did_you_mean(given, recipes)}; there are "
            f"{', '.join(recipes)}"
        )
    return recipes[given]
