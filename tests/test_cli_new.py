"""finetune new: a recipe for data at hand, that runs as it is."""

import csv
import json

import pytest
import yaml

from finetune.evaluation.record import find_runs, read_record
from finetune.recipe import load_recipe
from tests import tiny


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current directory, with reviews.csv of 240 sentences in it."""
    monkeypatch.chdir(tmp_path)
    with (tmp_path / "reviews.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["idx", "sentence", "label"])
        writer.writeheader()
        writer.writerows(row | {"label": ("bad", "good")[row["label"]]} for row in tiny.sentences(240, seed=1))
    return tmp_path


@pytest.fixture
def new(finetune):
    """A function that runs finetune new; returns its exit code and what it printed, to either stream."""

    def run(*arguments):
        code, out, err = finetune("new", *arguments)
        return code, out + err

    return run


def read(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_one_file_becomes_a_recipe_that_learns(here, new, finetune, tiny_model):
    code, out = new("mine.yaml", "--data", "reviews.csv", "--model", tiny_model, "--learning-rate", "5e-3")
    assert code == 0, out
    assert "mine.yaml: written and checked" in out
    recipe = read(here / "mine.yaml")
    assert recipe["task"] == {"name": "text_classification", "text": "sentence", "label": "label", "max_length": 32}
    assert recipe["data"]["files"]["test"] == "mine_data/test.parquet"
    assert finetune("run", "mine.yaml")[0] == 0
    (run,) = find_runs([here / "runs"])
    assert read_record(run).results.splits["test"].metrics["accuracy"].value > 0.8


def test_schedules_to_compare_become_a_study(here, new, finetune, tiny_model):
    asked = ("--schedule", "cosine", "--schedule", "piecewise", "--seeds", 3)
    assert new("mine.yaml", "--data", "reviews.csv", "--model", tiny_model, *asked)[0] == 0
    study = read(here / "mine.yaml")["study"]
    assert study == {
        "grid": {
            "schedule": [{"name": "cosine", "warmup": "10%"}, {"name": "piecewise"}],
            "training.seed": [0, 1, 2],
        },
        "reference": "cosine",
    }
    code, out, _ = finetune("check", "mine.yaml")
    assert (code, "2 settings on 3 seeds: 6 runs" in out) == (0, True)


def test_files_that_are_split_already_stay_as_they_are(here, new, tiny_model):
    asked = ("--data", "reviews.csv", "--validation", "reviews.csv")
    assert new("mine.yaml", *asked, "--model", tiny_model)[0] == 0
    assert read(here / "mine.yaml")["data"] == {"files": {"train": "reviews.csv", "validation": "reviews.csv"}}
    assert sorted(path.name for path in here.iterdir()) == ["mine.yaml", "reviews.csv"]


def test_what_is_not_given_is_asked_for(here, new, tiny_model, monkeypatch):
    asked = []

    def answer(question):
        asked.append(question)
        return "reviews.csv" if question.startswith("Data") else str(tiny_model)

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.prompt", answer)
    assert new("mine.yaml")[0] == 0
    assert [question.split(",")[0] for question in asked] == ["Data", "Model"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mine.txt",), "mine.txt is to be a recipe: give a name that ends in .yaml"),
        (("there.yaml",), "there.yaml is there already: give another name, or --replace"),
        (("no/mine.yaml",), "no is no folder: make it first"),
        (("mine.yaml", "--model", "a/b"), "--data: missing, and there is nobody to ask: give it"),
        (("mine.yaml", "--data", "reviews.csv"), "--model: missing, and there is nobody to ask: give it"),
        (("mine.yaml", "--data", "no.csv", "--model", "a/b"), "no.csv: no such file"),
        (
            ("mine.yaml", "--data", "reviews.csv", "--model", "a/b", "--task", "poetry"),
            '--task: "poetry" is not one of',
        ),
        (("mine.yaml", "--data", "reviews.csv", "--model", "a/b", "--schedule", "cosin"), "did you mean cosine?"),
        (("mine.yaml", "--data", "reviews.csv", "--model", "./no"), "no such folder"),
        (("mine.yaml", "--data", "reviews.csv", "--model", "a/b", "--optimizer", "adamv"), "--optimizer: "),
        (("mine.yaml", "--data", "reviews.csv", "--model", "a/b", "--test", "reviews.csv"), "--validation: missing"),
    ],
)
def test_what_cannot_be_is_one_message_and_leaves_nothing_behind(here, new, arguments, message):
    (here / "there.yaml").write_text("", encoding="utf-8")
    code, out = new(*arguments)
    assert (code, message in out) == (2, True), out
    assert sorted(path.name for path in here.iterdir() if path.is_file()) == ["reviews.csv", "there.yaml"]


def test_texts_that_read_as_something_else_are_quoted(here, new, tiny_model):
    rows = [{"1e3": row["sentence"], "null": str(row["label"])} for row in tiny.sentences(60, seed=2)]
    (here / "odd.json").write_text(json.dumps(rows), encoding="utf-8")
    columns = ("--text", "1e3", "--label", "null")
    assert new("odd.yaml", "--data", "odd.json", "--model", tiny_model, *columns)[0] == 0
    task = load_recipe(here / "odd.yaml").task
    assert (task.text, task.label) == ("1e3", "null")


@pytest.mark.parametrize(("others", "seeds"), [(["step"], 6), (["step", "linear"], 7), (["step", "linear", "wsd"], 7)])
def test_as_many_seeds_are_proposed_as_can_show_a_difference(here, new, others, seeds):
    # The least p of the exact test, 2/2ⁿ, times the number of differences from the first is at most 0.05.
    asked = [word for name in ["cosine", *others] for word in ("--schedule", name)]
    code, out = new("mine.yaml", "--data", "reviews.csv", "--model", "org/model", *asked)
    assert (code, read(here / "mine.yaml")["study"]["grid"]["training.seed"]) == (0, list(range(seeds))), out
