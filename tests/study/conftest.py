"""Studies of the tiny model."""

import pytest


@pytest.fixture
def write_study(small_recipe):
    """A function that writes a study of the small recipe, by its YAML, under a name; returns its path."""

    def write(name, study):
        path = small_recipe.parent / f"{name}.yaml"
        output = small_recipe.parent / "runs"
        path.write_text(f"base: {small_recipe.name}\noutput: {output}\n{study}", encoding="utf-8")
        return path

    return write
