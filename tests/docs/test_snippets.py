"""The commands and the code of the pages on reproducibility, layers, adapters, offline work, scaling and the recipe."""

import csv
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from finetune.errors import ModelError
from finetune.evaluation.record import read_record
from finetune.recipe import load_recipe
from tests import tiny
from tests.docs.pages import BIN, ROOT, called, code, lines, page, words_of

REPRODUCIBILITY = "docs/reproducibility.md"
OFFLINE = "docs/offline.md"
ADAPTERS = "docs/adapters.md"


@pytest.mark.parametrize(("path", "name"), re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page(REPRODUCIBILITY)))
def test_a_test_that_is_named_is_there(path, name):
    assert f"\ndef {name}(" in page(path)


def runs():
    return sorted(Path("runs/recipe").iterdir())


AGAIN = lines(REPRODUCIBILITY, "## Making a run again")
(TWO_RUNS,) = code(REPRODUCIBILITY, "python")
(OTHER_DATA,) = lines(REPRODUCIBILITY, "## What tells runs apart")


@pytest.mark.slow
def test_a_run_is_made_again_as_the_page_says(recipe, capsys):
    assert called("finetune run recipe.yaml") == 0
    (run,) = runs()
    first_record = read_record(run)
    recorded, again, elsewhere = AGAIN
    assert called(recorded) == 0
    assert read_record(run) == first_record
    assert called(again) == 0
    assert read_record(run).timing != first_record.timing
    assert called(elsewhere.replace("RUN", run.name)) == 0
    (other,) = set(runs()) - {run}
    assert read_record(other).results == read_record(run).results == first_record.results
    capsys.readouterr()
    exec(TWO_RUNS, {"first": run, "second": other})
    assert [line.rpartition(": ")[2] for line in capsys.readouterr().out.splitlines()] == ["True"] * 3
    with Path("train.csv").open("a", encoding="utf-8") as file:
        file.write("200,a brilliant film,positive\n")
    assert called(recorded) == 2
    assert capsys.readouterr().err == f"finetune: {OTHER_DATA.replace('RUN', run.name)}\n"


GOING_ON = lines(REPRODUCIBILITY, "## Stopping and going on")


@pytest.mark.slow
def test_an_interrupted_run_goes_on_as_the_page_says(recipe, stop_in):
    def interrupted(line):
        stop_in("training_step", lambda trainer: trainer.state.global_step == 2)
        assert called(line) == 75

    going_on, anew, from_another = GOING_ON
    interrupted(going_on)
    (run,) = runs()
    assert called(from_another.replace("RUN", run.name)) == 0
    (other,) = set(runs()) - {run}
    continued = read_record(other).continued
    assert (continued.run, continued.step, continued.on_change) == (run.name, 3, "extend")
    assert called(going_on) == 0
    whole = read_record(run)
    (run / "record.json").unlink()
    interrupted(going_on)
    assert called(anew) == 0
    assert read_record(run).results == whole.results


SHORT = lines("README.md", "## What a run leaves", "finetune run")


def test_the_readme_goes_on_by_the_same_commands():
    named = [line.replace("RECIPE", "recipe.yaml").replace("runs/…/…", "runs/recipe/RUN") for line in SHORT]
    assert [words_of(line) for line in named] == [words_of(line) for line in GOING_ON[1:]]


FRAGMENTS = [
    *(*code("docs/schedules.md", "yaml"), *code("docs/layers.md", "yaml")),
    *code(ADAPTERS, "yaml"),
]


@pytest.mark.parametrize("fragment", FRAGMENTS, ids=lambda fragment: fragment.splitlines()[-1].strip()[:40])
def test_a_fragment_of_a_recipe_is_one_that_is_read(small_recipe, fragment):
    path = small_recipe.with_name("own.yaml")
    path.write_text(f"base: {small_recipe.name}\n{fragment}", encoding="utf-8")
    assert load_recipe(path).to_dict() != load_recipe(small_recipe).to_dict()


(READ_BY_PEFT,) = code(ADAPTERS, "python")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # PEFT's own use of it
def test_an_adapter_is_read_as_the_page_says(train):
    pytest.importorskip("peft", reason="adapters need the extra finetune-schedules[adapters]")
    import torch
    from transformers import AutoTokenizer

    _, run = train("adapter={name: lora, merge: false}", "training.duration=4", "evaluation.every=null")
    given = {}
    exec(READ_BY_PEFT.replace("runs/…/", f"{run}/"), given)
    texts = parquet.read_table(run.parents[2] / "test.parquet").column("sentence").to_pylist()
    encoded = AutoTokenizer.from_pretrained(run / "model")(texts, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        shares = given["model"].eval()(**encoded).logits.softmax(dim=1)[:, 1]
    recorded = parquet.read_table(run / "predictions" / "test.parquet").column("probability_positive")
    np.testing.assert_allclose(shares.numpy(), recorded.to_numpy(), atol=1e-5)


(OF_THE_SCHEMA,) = lines("docs/recipe.md")


def test_recipes_name_the_schema_as_the_page_says():
    for path in (ROOT / "recipes").glob("*.yaml"):
        assert OF_THE_SCHEMA in path.read_text(encoding="utf-8").splitlines(), path


(BEFOREHAND,) = lines("docs/scaling.md", start="finetune check")


def test_memory_is_told_beforehand_as_the_page_says(recipe, capsys):
    assert called(BEFOREHAND.replace("RECIPE", "recipe.yaml")) == 0
    out = capsys.readouterr().out
    assert "memory       80.0 GB on each of 8 devices" in out
    assert "fsdp2        fits as it is\n" in out


(NOT_CACHED,) = lines(OFFLINE, start="finetune: ")


def test_a_model_that_is_in_no_cache_is_told_of_as_the_page_says():
    from finetune.tasks.pretrained import Pretrained, load_tokenizer

    with pytest.raises(ModelError) as caught:
        load_tokenizer(Pretrained("google-bert/bert-base-uncased", "0" * 40), max_length=128)
    assert str(caught.value).startswith(NOT_CACHED.removeprefix("finetune: "))


(BY_FILES,) = code(OFFLINE, "yaml", "## From files")


def test_a_model_and_data_are_named_by_files_as_the_page_says(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"{BY_FILES}optimizer: {{name: adamw, learning_rate: 1e-3}}\n", encoding="utf-8")
    recipe = load_recipe(path)
    assert Path(recipe.model.path) == tmp_path / "models" / "bert"
    assert set(recipe.data.files) == {"train", "validation", "test"}


(OFF,) = lines(OFFLINE, start="export ")
(BY_HUB,) = code(OFFLINE, "yaml", "## By hand")
(MODEL_BY_HAND,) = code(OFFLINE, "bash")
(DATA_BY_HAND,) = code(OFFLINE, "python")
(WITH_CACHES,) = lines(OFFLINE, "## By copying the caches")


@pytest.mark.slow
def test_caches_made_by_hand_are_read_as_the_page_says(tmp_path, tiny_model):
    home = tmp_path / "hf_home"
    shutil.copytree(tiny_model, tmp_path / "models" / "bert")
    for split, seed in (("train", 1), ("validation", 2)):
        with (tmp_path / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["sentence", "label"])
            for row in tiny.sentences(40, seed=seed):
                writer.writerow([row["sentence"], ("negative", "positive")[row["label"]]])
    (tmp_path / "recipe.yaml").write_text(
        BY_HUB
        + "task: {name: text_classification, text: sentence, max_length: 32}\n"
        + "optimizer: {name: adamw, learning_rate: 1e-3}\ntraining: {duration: 2}\n",
        encoding="utf-8",
    )
    (tmp_path / "data.py").write_text(DATA_BY_HAND, encoding="utf-8")
    run = WITH_CACHES.replace("/data/hf_home", str(home))
    done = subprocess.run(
        ["bash", "-c", f"set -e\n{OFF}\nexport HF_HOME={home}\n{MODEL_BY_HAND}\npython data.py\n{run}\n"],
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = tmp_path.glob("runs/recipe/*/record.json")
    identity = read_record(record.parent).identity
    assert identity.model.commit == "0123456789abcdef0123456789abcdef01234567"
    assert identity.classes == ["negative", "positive"]
