"""The commands that show, draw and fit schedules, and search for a rate."""

import json
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from finetune.cli.schedules import EXAMPLES
from finetune.recipe import load_recipe
from finetune.schedules import SCHEDULES, as_schedule

ROOT = Path(__file__).parents[1]


def test_the_list_has_every_schedule(finetune):
    code, out, _ = finetune("schedules", "list")
    assert code == 0
    assert set(SCHEDULES) <= {line.split()[0] for line in out.splitlines() if line.strip()}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_is_shown_with_its_formula_and_settings(finetune, name):
    code, out, _ = finetune("schedules", "show", name)
    assert code == 0
    assert SCHEDULES[name].formula.split()[0] in out
    assert all(field.name in out for field in fields(SCHEDULES[name]))


def test_an_unknown_schedule_is_one_message(finetune):
    code, _, err = finetune("schedules", "show", "cosin")
    assert (code, err.count("\n")) == (2, 1)
    assert "did you mean cosine?" in err


def test_every_schedule_has_words_for_each_of_its_settings():
    for schedule in SCHEDULES.values():
        assert schedule.formula
        assert all(field.metadata["about"] for field in fields(schedule))


def test_examples_are_of_schedules_that_there_are():
    assert set(EXAMPLES) <= set(SCHEDULES)


def test_schedules_are_drawn_on_the_terminal(finetune):
    code, out, _ = finetune("schedules", "plot", "cosine", "wsd cooldown=30%")
    assert code == 0
    assert "cosine" in out
    assert "wsd cooldown=30%" in out


@pytest.mark.parametrize("suffix", ["svg", "png", "html"])
def test_schedules_are_drawn_into_a_file(finetune, tmp_path, suffix):
    path = tmp_path / f"picture.{suffix}"
    code, out, _ = finetune("schedules", "plot", "--all", "--output", path)
    assert (code, out) == (0, f"{path}: written\n")
    assert path.stat().st_size > 10_000


def test_the_picture_of_the_readme_is_what_its_command_draws(finetune, tmp_path):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "![" in readme.partition("finetune schedules plot --all --output docs/schedules.svg")[0]
    finetune("schedules", "plot", "--all", "--output", tmp_path / "schedules.svg")
    assert (tmp_path / "schedules.svg").read_text() == (ROOT / "docs" / "schedules.svg").read_text()


def test_a_recipes_schedule_is_drawn(finetune, small_recipe):
    assert finetune("schedules", "plot", small_recipe)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give one or more schedules, or --all"),
        (["cosine", "--all"], "give one or more schedules, or --all"),
        (["cosine floor=2"], "cosine floor=2: floor: 2 must be a number from 0 to 1"),
        (["cosine warmup=2000"], "warmup: 2000 updates are more than the run's 1000"),
        (["cosine warmup='5k tokens'"], "counts tokens, and tokens per update are not known here"),
        (["cosine", "--updates", "0"], "updates: must be 1 or more"),
        (["cosine", "--output", "picture.gif"], "picture.gif"),
        (["absent.yaml"], "no such file"),
    ],
)
def test_what_cannot_be_drawn_is_one_message(finetune, arguments, message):
    code, _, err = finetune("schedules", "plot", *arguments)
    assert code == 2
    assert message in err


@pytest.fixture
def finished(small_recipe, finetune):
    """The directory of a finished run of the small recipe."""
    output = small_recipe.parent / "runs"
    finetune(
        "run",
        small_recipe,
        f"output={output}",
        "training.duration=12",
        "evaluation.every=null",
        "checkpoints.every=null",
    )
    return next((output / "small").iterdir())


def test_a_schedule_is_fitted_to_a_run_and_used_as_a_base(finetune, finished, small_recipe):
    fragment = small_recipe.with_name("refined.yaml")
    code, out, _ = finetune("schedules", "refine", finished, "--output", fragment)
    assert code == 0
    assert "points; use it as base: refined.yaml" in out
    code, out, _ = finetune("schedules", "refine", finished)
    assert out == fragment.read_text()
    fitted = as_schedule(yaml.safe_load(out)["schedule"])
    text = "\n".join(line for line in small_recipe.read_text().splitlines() if not line.startswith("schedule"))
    again = small_recipe.with_name("again.yaml")
    again.write_text(f"base: refined.yaml\n{text}\n")
    assert load_recipe(again).schedule == fitted
    factor = fitted.resolve(total_steps=12)
    assert max(factor(t) for t in range(12)) == 1.0
    assert factor(11) == 0.0


def test_a_directory_without_a_run_cannot_be_refined(finetune, tmp_path):
    code, _, err = finetune("schedules", "refine", tmp_path)
    assert code == 2
    assert "no such file; a run writes it when it ends" in err


def test_a_rate_is_searched_for(finetune, small_recipe, monkeypatch):
    monkeypatch.chdir(small_recipe.parent)
    arguments = ["lr-find", small_recipe, "--updates", "12", "--seeds", "2", "--least", "1e-5", "--most", "1e-1"]
    code, out, _ = finetune(*arguments, "--output", "search.json")
    assert code == 0
    assert "smoothed loss" in out
    search = json.loads((small_recipe.parent / "search.json").read_text())
    assert [curve["seed"] for curve in search["curves"]] == [0, 1]
    assert finetune(*arguments, "--output", "search.svg")[0] == 0
    assert (small_recipe.parent / "search.svg").read_text().startswith("<svg")
    assert not (small_recipe.parent / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--least", "1", "--most", "0.1"], "least: 1 must be below most"),
        (["--updates", "3"], "updates: 3 are too few"),
        (["--output", "search.gif"], "for the numbers, .json"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused(finetune, small_recipe, arguments, message):
    code, _, err = finetune("lr-find", small_recipe, *arguments)
    assert code == 2
    assert message in err
