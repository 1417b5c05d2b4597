"""The `layers:` block: what it takes, what it refuses, and that a recipe without it has the run that it had before."""

import hashlib
import json
from fractions import Fraction

import pytest

from finetune.errors import RecipeError
from finetune.keys import IMMATERIAL, is_among
from finetune.recipe import load_recipe
from finetune.recipe.rungs import rescaled
from finetune.training.run_directory import _relative, run_directory

OFF = ["layers={}", "layers=null", "layers={freeze: null, head_rate: 1.0, rate_decay: 1.0, reinitialise: 0}"]
ON = [
    "layers.freeze=embeddings",
    "layers.freeze=body",
    "layers.freeze=1",
    "layers.freeze=['bert.embeddings']",
    "layers.head_rate=10",
    "layers.rate_decay=0.9",
    "layers.unfreeze={every: 10%}",
    "layers.reinitialise=1",
]


@pytest.fixture
def load(small_recipe):
    """A function that loads the small recipe with overrides."""
    return lambda *overrides: load_recipe(small_recipe, overrides)


def test_a_recipe_without_layers_has_the_directory_that_it_had_before_there_were_any(load, small_recipe):
    recipe = load()
    content = {key: value for key, value in recipe.flatten().items() if not is_among(key, (*IMMATERIAL, "layers"))}
    text = json.dumps(_relative(content | {"plugins": []}, small_recipe.parent), sort_keys=True)
    assert run_directory(recipe, source=small_recipe).name.endswith(hashlib.sha256(text.encode()).hexdigest()[:8])


@pytest.mark.parametrize("off", OFF)
def test_layers_that_change_nothing_are_none(load, off, small_recipe):
    assert load(off) == load()
    assert run_directory(load(off), source=small_recipe) == run_directory(load(), source=small_recipe)


def test_each_setting_is_another_run(load, small_recipe):
    names = {run_directory(load(*on), source=small_recipe).name for on in ((), *zip(ON, strict=True))}
    assert len(names) == len(ON) + 1


@pytest.mark.parametrize("on", ON)
def test_what_is_written_is_read_back(load, small_recipe, on):
    recipe = load(on)
    path = small_recipe.parent / "again.yaml"
    path.write_text(recipe.to_yaml(), encoding="utf-8")
    assert load_recipe(path) == recipe


def test_a_whole_factor_is_a_number(load):
    assert load("layers.head_rate=10").layers.head_rate == 10.0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("layers.freeze=embedings", r'layers\.freeze: "embedings" is not one of .*\(did you mean embeddings\?\)'),
        ("layers.freeze=classifier", r'layers\.freeze: "classifier" is not one of .*; \["classifier"\] freezes all'),
        ("layers.freeze=0", r"layers\.freeze: 0 is no number of blocks: give embeddings"),
        ("layers.freeze=true", r"layers\.freeze: True is not one of embeddings, body"),
        ("layers.freeze=[]", r"layers\.freeze: the list is not one of"),
        ("layers.freeze=[1]", r"layers\.freeze: the list is not one of"),
        ("layers.freeze={a: 1}", r"layers\.freeze: the block is not one of"),
        ("layers.freeze=['(']", r"layers\.freeze: \( is not a regular expression"),
        ("layers.frezee=1", r"layers\.frezee: unknown key \(did you mean freeze\?\)"),
        ("layers.head_rate=0", r"layers\.head_rate: 0 must be greater than 0"),
        ("layers.rate_decay=1.5", r"layers\.rate_decay: 1\.5 must be less than or equal to 1"),
        ("layers.reinitialise=-1", r"layers\.reinitialise: -1 must be greater than or equal to 0"),
        ("layers.unfreeze=10%", r'layers\.unfreeze: "10%" is not a block of settings'),
        ("layers.unfreeze={evry: 1}", r"layers\.unfreeze\.evry: unknown key \(did you mean every\?\)"),
        ("layers.unfreeze={every: 0}", r"layers\.unfreeze\.every: 0 is no interval"),
        ("layers={freeze: body, unfreeze: {every: 1}}", r"layers\.unfreeze: is about the body, none of which"),
        ("layers={freeze: body, rate_decay: 0.9}", r"layers\.rate_decay: is about the body, none of which"),
        ("layers={freeze: body, reinitialise: 1}", r"layers\.reinitialise: is about the body, none of which"),
        ("layer_decay=0.9", r"unknown key; here it is layers\.rate_decay"),
    ],
)
def test_what_is_refused_at_load(load, override, message):
    with pytest.raises(RecipeError, match=message):
        load(override)


def test_layers_that_are_unfrozen_go_with_no_graphs(load):
    with pytest.raises(RecipeError, match=r"layers\.unfreeze: can't be had with training\.cuda_graphs"):
        load("layers.unfreeze={every: 1}", "training.cuda_graphs=true")


@pytest.mark.parametrize(("every", "expected"), [("10", 5), ("10%", "10%"), ("1ep", "0.5ep")])
def test_a_shorter_rung_unfreezes_in_proportion(load, every, expected):
    recipe = load(f"layers.unfreeze={{every: {every}}}", "layers.rate_decay=0.9")
    shorter = rescaled(recipe, Fraction(1, 2))
    assert (shorter.layers.unfreeze.every, shorter.layers.rate_decay) == (expected, 0.9)
