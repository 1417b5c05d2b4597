"""To whom the command line speaks: a person, a program that reads JSON, or nobody; and how it answers mistakes of usage."""

import io
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from finetune.evaluation.record import find_runs, read_record
from finetune.training.progress import RunProgress
from tests import tiny

SHORT = ("training.duration=3", "checkpoints.every=null")
STUDY = "study={grid: {schedule: [cosine, linear], training.seed: [0, 1]}}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runn"], "no such command 'runn' (did you mean run?); finetune --help tells more"),
        (["schedules", "sho"], "no such command 'sho' (did you mean show?); finetune schedules --help tells more"),
        (["run"], "missing argument RECIPE; finetune run --help tells more"),
        (["compare"], "missing argument RUNS; finetune compare --help tells more"),
        (["run", "minilm_reviews", "--repea"], "no such option: --repea"),
        (["study", "minilm_reviews", "--cpus", "two"], "--cpus: must be a valid integer"),
        (["new", "mine.yaml", "--seeds", "1"], "--seeds: must be greater than or equal to 2"),
        (["schema", "more"], "got unexpected extra argument"),
    ],
)
def test_what_cannot_be_understood_is_answered_like_every_mistake(finetune, arguments, message):
    code, out, err = finetune(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"finetune: {message}")


def test_a_command_alone_shows_its_help(finetune):
    code, out, err = finetune("schedules")
    assert code in (0, 2)  # by the version of click
    assert "refine" in out + err


def test_a_table_given_as_a_recipe_leads_to_finetune_new(finetune, tmp_path):
    tiny.write_reviews(tmp_path)
    code, _, err = finetune("run", tmp_path / "train.csv")
    assert code == 2
    assert f"a table, and no recipe; finetune new RECIPE.yaml --data {tmp_path / 'train.csv'} proposes" in err


def test_a_misspelt_name_of_a_schedule_s_name(finetune, small_recipe):
    assert "schedule.nam: unknown key (did you mean name?)" in finetune("check", small_recipe, "schedule.nam=x")[2]


def test_the_package_is_a_command_too():
    done = subprocess.run(
        [sys.executable, "-m", "finetune", "--version"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith("finetune-schedules ")


@pytest.mark.slow
def test_a_quiet_run_says_nothing_unless_it_fails(finetune, small_recipe, monkeypatch):
    monkeypatch.chdir(small_recipe.parent)
    assert finetune("run", small_recipe, *SHORT, "--quiet") == (0, "", "")
    assert len(list(find_runs([Path("runs")]))) == 1
    code, out, err = finetune("run", small_recipe, *SHORT, "optimizer.learning_rate=1e30", "-q")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "diverged at update" in err


@pytest.mark.slow
def test_what_programs_read_is_all_that_is_printed(finetune, small_recipe, monkeypatch):
    monkeypatch.chdir(small_recipe.parent)
    code, out, err = finetune("run", small_recipe, *SHORT, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["record"] == read_record(Path(found["run"])).model_dump(mode="json")
    code, out, err = finetune("study", small_recipe, *SHORT, STUDY, "--json")
    assert (code, err) == (0, "")
    of_study = json.loads(out)
    assert of_study["failed"] == []
    code, out, err = finetune("compare", of_study["directory"], "--json")
    assert (code, err) == (0, "")
    (comparison,) = json.loads(out)["comparisons"]
    assert [comparison] == of_study["comparisons"]
    assert {row["schedule"] for row in comparison["rows"]} == {"cosine", "linear"}
    scores = {run["run"]: run["score"] for row in comparison["rows"] for run in row["runs"]}
    assert scores == {run: read_record(Path(run)).score(comparison["split"]) for run in scores}
    (difference,) = comparison["findings"][0]["differences"]
    assert difference["mean"] == pytest.approx(sum(difference["differences"]) / len(difference["seeds"]))
    assert finetune("study", small_recipe, *SHORT, STUDY, "--quiet") == (0, "", "")


@pytest.mark.parametrize("width", [60, 72, 80, 120])
def test_the_line_of_progress_fits_the_window(width):
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    progress = RunProgress(console)
    progress.on_train_begin(None, SimpleNamespace(max_steps=2530, global_step=0), None)
    progress.show({"step": 1200, "rates": {"all": 1e-4}, "loss": 0.51234, "seconds": 30, "epoch": 1.2})
    with console.capture() as captured:
        console.print(progress._bar.get_renderable())
    progress.stop()
    assert "1200/2530 rate 1.00e-04  loss 0.5123" in captured.get()
    assert ("updates" in captured.get()) == (width >= 72)


def test_a_sentence_is_broken_at_words_on_a_terminal_and_whole_in_a_file():
    from finetune.evaluation.terminal import say

    sentence = "• none is shown to be better in test accuracy: cosine and linear are indistinguishable"
    for is_terminal, lines in ((True, 3), (False, 1)):
        file = io.StringIO()
        say(Console(file=file, width=40, force_terminal=is_terminal, color_system=None), [sentence])
        printed = file.getvalue().splitlines()
        assert len(printed) == lines
        assert all(line == line.rstrip() for line in printed)
        assert all(line.startswith("  ") for line in printed[1:])
        assert " ".join(map(str.strip, printed)) == sentence


def test_the_table_of_splits_fits_eighty_columns(finetune, small_recipe, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = finetune("check", small_recipe)[1]
    table = out.split("\n\n")[1]
    assert "tokens" in table
    assert max(map(len, table.splitlines())) <= 80
