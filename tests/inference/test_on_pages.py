"""What the README says can be done after training, with a run that is over."""

import csv
import re
from pathlib import Path

import pytest

from finetune.evaluation.record import read_record
from tests import tiny
from tests.docs.pages import code, lines, words_of

HEADING = "## After training"
(PREDICT,) = lines("README.md", HEADING, "finetune predict")
(EVALUATE,) = lines("README.md", HEADING, "finetune evaluate")
PUSH, _ = lines("README.md", HEADING, "finetune push")  # the second is in test_exporting.py
(LOAD,) = code("README.md", "python", HEADING)


@pytest.fixture
def place(finished_run, tmp_path, monkeypatch):
    """The run's name among those of the folder that commands are run in, where later.csv has rows of later."""
    monkeypatch.chdir(tmp_path)
    Path("runs").symlink_to(finished_run.parents[1])
    with Path("later.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["sentence", "label"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(row | {"label": ("negative", "positive")[row["label"]]} for row in tiny.sentences(20, seed=9))
    return f"{finished_run.parent.name}/{finished_run.name}"


@pytest.fixture
def give(place, finetune):
    """A function that gives a line of the page; returns what it printed."""

    def give(line):
        code, out, err = finetune(*words_of(line.replace("…/…", place))[1:])
        assert code == 0, err
        return out

    return give


def test_later_rows_are_predicted(give):
    give(PREDICT)
    with Path("predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20
    assert {row["prediction"] for row in rows} == {"negative", "positive"}


def test_later_rows_are_scored_also_as_the_comment_says(give):
    assert "accuracy" in give(EVALUATE)
    options = re.findall(r"--\w+(?: [a-z]\S+_\S+)?", EVALUATE.partition("#")[2])
    assert options == ["--metrics accuracy,f1_macro", "--json"]
    for option in options:
        give(f"{EVALUATE.partition('#')[0]} {option}")


def test_the_model_is_sent_to_the_hub_also_as_the_comment_says(give, hub):
    give(PUSH)
    assert hub.made["name"] == "model"
    assert "model.safetensors" in hub.files
    (option,) = re.findall(r"--[\w-]+", PUSH.partition("#")[2])
    give(f"{PUSH.partition('#')[0]} {option}")
    assert {"record.json", "recipe.yaml"} <= set(hub.files)


def test_a_program_gets_predictions(place, finished_run):
    given = {}
    exec(LOAD.replace("…/…", place), given)
    table, classes = given["table"], read_record(finished_run).identity.classes
    assert table.column("prediction").to_pylist() == [classes[1], classes[0]]
    rows = [{"sentence": text} for text in ("a brilliant film", "a tedious one")]
    assert given["predictor"](rows).equals(table)
