"""Runs of a tiny model on a few hundred sentences, each a second or two."""

import io
import json
import shutil

import pytest
from rich.console import Console


@pytest.fixture
def train(small_recipe):
    """A function that runs the small recipe with overrides; returns its record and its directory."""
    from finetune.recipe import load_recipe
    from finetune.training import fine_tune
    from finetune.training.run_directory import run_directory

    def run(*overrides, repeat=False, out=None):
        recipe = load_recipe(small_recipe, [f"output={small_recipe.parent / 'runs'}", *overrides])
        console = Console(file=out or io.StringIO(), width=120)
        record = fine_tune(recipe, source=small_recipe, console=console, repeat=repeat)
        return record, run_directory(recipe, source=small_recipe)

    return run


@pytest.fixture
def steady_model(tiny_model, tmp_path):
    """The tiny model without dropout, so that a batch gives the same loss however it is cut."""
    folder = tmp_path / "steady_model"
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return folder
