"""What the commands of the pages are run on."""

import pytest


@pytest.fixture
def recipe(small_recipe, monkeypatch):
    """recipe.yaml of a run of 4 updates, in the folder that commands are run in."""
    text = small_recipe.read_text(encoding="utf-8")
    path = small_recipe.rename(small_recipe.with_name("recipe.yaml"))
    path.write_text(text.replace("2ep, batch_size: 16", "1ep, batch_size: 64"), encoding="utf-8")
    monkeypatch.chdir(path.parent)
    return path
