"""A complete recipe to start from, and a function that writes one and loads it."""

import textwrap

import pytest

from finetune.recipe import load_recipe

COMPLETE = """
model: {path: a-model}
data: {files: {train: train.csv, validation: validation.csv}}
optimizer: {name: adamw, learning_rate: 2e-5}
"""


@pytest.fixture
def write(tmp_path):
    """Writes text to a file of the test's folder, `recipe.yaml` unless named, and returns its path."""

    def write(text, name="recipe.yaml"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    return write


@pytest.fixture
def complete():
    """The text of the shortest complete recipe."""
    return COMPLETE


@pytest.fixture
def load(write):
    """Loads the complete recipe, with `text` after it and overrides."""

    def load(text="", *overrides):
        return load_recipe(write(COMPLETE + textwrap.dedent(text)), overrides)

    return load


@pytest.fixture
def problems(write):
    """Returns the lines of the message about a recipe's text, its title left out."""
    from finetune.errors import RecipeError

    def problems(text, *overrides):
        with pytest.raises(RecipeError) as caught:
            load_recipe(write(text), overrides)
        title, *lines = str(caught.value).splitlines()
        assert title.endswith(f"recipe.yaml: {len(lines)} problem{'' if len(lines) == 1 else 's'}")
        return [line.removeprefix("  ") for line in lines]

    return problems
