"""The JSON schema of recipes takes every recipe that can be loaded, and knows what editors can tell."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft7Validator

from finetune.cli import main
from finetune.recipe.json_schema import recipe_schema
from finetune.recipe.nodes import Place, parse

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
NEEDED = "model: a/b\ndata: {files: {train: a.csv, validation: [b.csv, c.csv]}}\noptimizer: {name: sgd, learning_rate: 1e-3}\n"
VALIDATOR = Draft7Validator(recipe_schema())


def problems(text):
    """Returns the places of a recipe at which the schema objects, and what it says."""
    tree, faults = parse(text, Place(""))
    assert not faults
    errors = VALIDATOR.iter_errors(tree.plain())
    return {".".join(map(str, error.absolute_path)): error for error in errors}


def test_it_is_a_schema():
    Draft7Validator.check_schema(recipe_schema())


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_pass_and_name_it(path):
    text = path.read_text(encoding="utf-8")
    assert not problems(text)
    assert "# yaml-language-server: $schema=recipe.schema.json\n" in text
    assert (path.parent / "recipe.schema.json").is_file()


@pytest.mark.parametrize(
    "settings",
    [
        "schedule: wsd",
        "schedule: {cooldown: 10%}",
        "schedule: {name: wsd, cooldown: 0.5ep, shape: linear}",
        "schedule: {phases: [{schedule: {name: linear, warmup: 5%}, duration: 2M tokens}, {schedule: cosine, peak: 0.5}]}",
        "schedule: {of: [cosine, {name: step, every: 10}]}",
        "schedule: {points: [[0, 1], [50%, 0.5]]}",
        "schedule: {name: of_a_plugin, its_own: 3}",
        "task: {name: of_a_plugin, its_own: 3}",
        "task: text_regression",
        "adapter: lora",
        "adapter: {targets: query}",
        "adapter: null",
        "evaluation: {metrics: [accuracy, hub:mauve, of_a_plugin], every: null}",
        "layers: {freeze: body}",
        "layers: {freeze: 3, unfreeze: {every: 10%}}",
        "layers: {freeze: [embeddings]}",
        "regularisation: {class_weights: {good: 2}}",
        "groups: {head: {parameters: classifier, learning_rate: 1e-3, schedule: {floor: 0.1}}}",
        "plugins: mine.py",
        "study: {grid: {training: {seed: [0, 1]}, schedule: [cosine]}, tuning: {factors: [0.5, 1], seeds: [7]}}",
    ],
)
def test_what_can_be_written_passes(settings):
    assert not problems(f"{NEEDED}{settings}\n")


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ("trainning: {seed: 1}", ""),
        ("training: {sed: 1}", "training"),
        ("training: {seed: one}", "training.seed"),
        ("training: {duration: 3 epochs}", "training.duration"),
        ("training: {precision: fp8}", "training.precision"),
        ("evaluation: {every: 10 %%}", "evaluation.every"),
        ("schedule: {name: cosine, flor: 0.1}", "schedule"),
        ("schedule: {name: wsd, shape: round}", "schedule"),
        ("schedule: {name: cosine, floor: 2}", "schedule"),
        ("task: {name: text_classification, txt: a}", "task"),
        ("layers: {freeze: head}", "layers"),
    ],
)
def test_what_editors_can_tell_is_refused(settings, place):
    assert place in problems(f"{NEEDED}{settings}\n")


def test_what_is_missing_may_be_in_a_base():
    assert problems("schedule: cosine\n")
    assert not problems("base: other.yaml\noptimizer: {learning_rate: 1e-3}\n")


def test_every_setting_of_a_schedule_is_described():
    schedules = recipe_schema()["definitions"]["Schedule"]["anyOf"]
    cosine = next(each for each in schedules if each.get("properties", {}).get("name") == {"const": "cosine"})
    assert cosine["properties"]["floor"] == {
        "type": "number",
        "minimum": 0,
        "maximum": 1,
        "default": 0.0,
        "description": "m, the fraction of the peak that the decay doesn't go below",
    }


def test_the_schema_and_the_reference_are_as_they_would_be_written():
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "write_reference.py"), "--check"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_command_line_prints_it(capsys):
    with pytest.raises(SystemExit):
        main(["schema"])
    assert json.loads(capsys.readouterr().out) == recipe_schema()
