"""The commands and the code of the pages, as a reader would run them; pages say which need a GPU or the Hub and aren't."""

import csv
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from finetune.cli import main
from finetune.errors import ModelError
from finetune.evaluation.record import read_record
from finetune.recipe import load_recipe
from finetune.schedules import SCHEDULES
from tests import tiny
from tests.docs.pages import ROOT, code_in, commands_in, page, section

BIN = Path(sys.executable).parent


def called(line):
    """Runs a command line of a page here; returns its exit code."""
    with pytest.raises(SystemExit) as left:
        main(shlex.split(line, comments=True)[1:])
    return left.value.code or 0


def test_the_way_in_has_the_commands_of_the_readme():
    """Which tests/test_readme.py runs."""
    ours = commands_in(page("docs/index.md").replace("\\\n        ", ""))
    assert ours == commands_in(section(page("README.md"), "## Your own data"))[: len(ours)]
    assert len(ours) == 3


REPRODUCIBILITY = page("docs/reproducibility.md")


@pytest.mark.parametrize(("path", "name"), re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", REPRODUCIBILITY))
def test_a_test_that_is_named_is_there(path, name):
    assert f"\ndef {name}(" in page(path)


@pytest.fixture
def recipe(small_recipe, monkeypatch):
    """recipe.yaml of a run of 4 updates, in the folder that commands are run in."""
    text = small_recipe.read_text(encoding="utf-8")
    path = small_recipe.rename(small_recipe.with_name("recipe.yaml"))
    path.write_text(text.replace("2ep, batch_size: 16", "1ep, batch_size: 64"), encoding="utf-8")
    monkeypatch.chdir(path.parent)
    return path


def runs():
    return sorted(Path("runs/recipe").iterdir())


@pytest.mark.slow
def test_a_run_is_made_again_as_the_page_says(recipe, capsys):
    assert called("finetune run recipe.yaml") == 0
    (run,) = runs()
    first_record = read_record(run)
    recorded, again, elsewhere = commands_in(section(REPRODUCIBILITY, "## Making a run again"))
    assert called(recorded) == 0
    assert read_record(run) == first_record
    assert called(again) == 0
    assert read_record(run).timing != first_record.timing
    assert called(elsewhere.replace("RUN", run.name)) == 0
    (other,) = set(runs()) - {run}
    assert read_record(other).results == read_record(run).results == first_record.results
    capsys.readouterr()
    (code,) = code_in(REPRODUCIBILITY, "python")
    exec(code, {"first": run, "second": other})
    assert [line.rpartition(": ")[2] for line in capsys.readouterr().out.splitlines()] == ["True"] * 3


@pytest.mark.slow
def test_an_interrupted_run_goes_on_as_the_page_says(recipe, stop_in):
    def interrupted(line):
        stop_in("training_step", lambda trainer: trainer.state.global_step == 2)
        assert called(line) == 75

    going_on, anew, from_another = commands_in(section(REPRODUCIBILITY, "## Stopping and going on"))
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


SCHEDULES_PAGE = page("docs/schedules.md")
BLOCKS = [block for name in ("schedules", "layers") for block in code_in(page(f"docs/{name}.md"), "yaml")]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[-1].strip()[:40])
def test_a_block_of_a_recipe_is_one_that_is_read(small_recipe, block):
    path = small_recipe.with_name("own.yaml")
    path.write_text(f"base: {small_recipe.name}\n{block}", encoding="utf-8")
    assert load_recipe(path).to_dict() != load_recipe(small_recipe).to_dict()


def test_schedules_are_drawn_as_the_page_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("recipes").symlink_to(ROOT / "recipes")
    in_the_terminal, into_a_file = commands_in(SCHEDULES_PAGE, "finetune schedules plot ")
    assert called(in_the_terminal) == called(into_a_file) == 0
    assert "wsd cooldown=30% shape=linear" in capsys.readouterr().out
    assert "step gamma=0.5" in Path("a.svg").read_text(encoding="utf-8")


def test_a_schedule_of_ones_own_is_registered_as_the_page_says(small_recipe):
    (code,) = code_in(section(SCHEDULES_PAGE, "## Your own"), "python")
    small_recipe.with_name("my_schedules.py").write_text(code, encoding="utf-8")
    path = small_recipe.with_name("own.yaml")
    settings = "schedule: {name: sigmoid, steepness: 5.0, floor: 0.2}\nplugins: [my_schedules.py]\n"
    path.write_text(f"base: {small_recipe.name}\n{settings}", encoding="utf-8")
    try:
        factor = load_recipe(path, ["schedule.warmup=0"], allow_plugins=True).schedule.resolve(total_steps=10)
        assert [factor(step) for step in (0, 5, 10)] == pytest.approx([1.0, 0.6, 0.2])
    finally:
        SCHEDULES.pop("sigmoid", None)


OFFLINE = page("docs/offline.md")


def test_a_model_that_is_in_no_cache_is_told_of_as_the_page_says():
    from finetune.tasks.pretrained import Pretrained, load_tokenizer

    told = re.search(r"^    finetune: (google-bert.*)$", OFFLINE, re.MULTILINE)[1]
    with pytest.raises(ModelError) as caught:
        load_tokenizer(Pretrained("google-bert/bert-base-uncased", "0" * 40), max_length=128)
    assert str(caught.value).startswith(told)


def test_a_model_and_data_are_named_by_files_as_the_page_says(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(code_in(OFFLINE, "yaml")[0] + "optimizer: {name: adamw, learning_rate: 1e-3}\n", encoding="utf-8")
    recipe = load_recipe(path)
    assert Path(recipe.model.path) == tmp_path / "models" / "bert"
    assert set(recipe.data.files) == {"train", "validation", "test"}


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
        code_in(OFFLINE, "yaml")[1]
        + "task: {name: text_classification, text: sentence, max_length: 32}\n"
        + "optimizer: {name: adamw, learning_rate: 1e-3}\ntraining: {duration: 2}\n",
        encoding="utf-8",
    )
    (by_hand,) = code_in(OFFLINE, "bash")
    (data,) = code_in(section(OFFLINE, "## By hand"), "python")
    (tmp_path / "data.py").write_text(data, encoding="utf-8")
    (run,) = commands_in(OFFLINE, "HF_HOME=")
    script = f"set -e\nexport HF_HOME={home}\n{by_hand}\npython data.py\n{run.replace('/data/hf_home', str(home))}\n"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = tmp_path.glob("runs/recipe/*/record.json")
    identity = read_record(record.parent).identity
    assert identity.model.commit == "0123456789abcdef0123456789abcdef01234567"
    assert identity.classes == ["negative", "positive"]
