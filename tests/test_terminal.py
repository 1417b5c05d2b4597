"""The command line as a new user meets it: mistakes, a narrow window, no colours, a file in place of a terminal."""

import io
import json
import os
import re
import subprocess
import sys

import pytest
import typer
from rich.console import Console

from finetune.figures import Curve, print_curves
from finetune.inference import finished
from tests import tiny

ESCAPE = "\x1b"


@pytest.fixture
def reviews(tmp_path, monkeypatch):
    """The current directory, with train.csv in it."""
    monkeypatch.chdir(tmp_path)
    tiny.write_reviews(tmp_path)
    return tmp_path


# Help


@pytest.mark.parametrize(
    ("asked", "commands"),
    [
        (
            ["--help"],
            ["new", "check", "run", "study", "compare", "lr-find", "cooldown", "schema", "predict", "evaluate"],
        ),
        (["--help"], ["launch", "push", "export", "schedules"]),
        (["schedules", "--help"], ["list", "show", "plot", "refine"]),
    ],
)
def test_what_a_command_does_fits_its_line(finetune, monkeypatch, asked, commands):
    monkeypatch.setenv("COLUMNS", "80")
    lines = {line.split()[0]: line for line in finetune(*asked)[1].splitlines() if line.strip()}
    assert [command for command in commands if lines[command].endswith("...")] == []


@pytest.mark.parametrize("command", ["new", "predict", "evaluate", "push", "export"])
def test_help_has_words_of_users_in_place_of_names_of_types(finetune, command):
    _, out, _ = finetune(command, "--help")
    assert "<list[Path]>" not in out
    assert "<int range>" not in out
    assert "..." not in out.replace("FILE}...", "").replace("FILE]...", "")
    assert "{run}" not in out


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["schedules", "plot", "step gamm=0.5"], "step gamm=0.5: gamm: unknown key (did you mean gamma?)"),
        (["schedules", "plot", "cosine floor=2"], "cosine floor=2: floor: 2 must be a number from 0 to 1"),
        (
            ["schedules", "plot", "cosine warmup=2000"],
            "cosine warmup=2000: warmup: 2000 updates are more than the run's",
        ),
        (["schedules", "plot", "cosine x"], 'cosine x: "x" is not KEY=VALUE'),
        (["schedules", "plot", "cosine", "--output", "a.gif"], '--output: a.gif has the suffix ".gif"'),
        (["schedules", "plot", "cosine", "--epochs", "0"], "--epochs: must be 1 or more"),
        (["schedules", "show", "cosin"], 'NAME: "cosin" is not one of'),
    ],
)
def test_a_mistake_is_named_as_it_was_made(finetune, arguments, message):
    code, out, err = finetune(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"finetune: {message}")


@pytest.mark.parametrize("command", [["predict"], ["evaluate"], ["export"], ["push"]])
def test_a_run_that_is_not_there_is_told_from_one_without_a_record(finetune, tmp_path, command):
    (tmp_path / "cosine-seed0").mkdir()
    code, _, err = finetune(*command, tmp_path / "cosine-sed0", "user/other")
    assert (code, err.count("\n")) == (2, 1)
    assert "cosine-sed0: no such directory (did you mean cosine-seed0?)" in err


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_a_precision_that_there_is_not_is_one_message(finetune, tmp_path, monkeypatch, command):
    monkeypatch.setattr(finished, "read_finished", lambda run, **options: None)
    code, _, err = finetune(command, tmp_path, "rows.csv", "--precision", "bf61")
    assert (code, err) == (
        2,
        'finetune: --precision: "bf61" is not one of fp32, bf16, fp16, auto (did you mean bf16?)\n',
    )


# finetune new


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--learning-rate", "0"], "--learning-rate: 0 must be above 0, and finite"),
        (["--learning-rate", "nan"], "--learning-rate: nan must be above 0, and finite"),
        (["--optimizer", "adm"], '--optimizer: "adm" is not one of adamw, adam'),
        (["--schedule", "cosin"], '--schedule: "cosin" is not one of constant'),
    ],
)
def test_what_new_is_asked_for_in_vain_is_named_as_asked(finetune, reviews, options, message):
    code, _, err = finetune("new", "mine.yaml", "--data", "train.csv", "--model", "org/model", *options)
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith(f"finetune: {message}")


def test_a_refused_recipe_leaves_nothing_behind(finetune, reviews):
    before = set(reviews.iterdir())
    code, _, err = finetune("new", "mine.yaml", "--data", "train.csv", "--model", "no/such/place")
    assert code == 2
    assert "is no repository of the Hub" in err
    assert set(reviews.iterdir()) == before


def test_a_misspelt_folder_is_not_taken_for_a_repository_in_silence(finetune, reviews):
    code, out, _ = finetune("new", "mine.yaml", "--data", "train.csv", "--model", "tinny")
    assert code == 0
    assert "tinny: no folder of this name is here, so the model is to come from the Hub" in out


def test_an_interrupted_question_is_an_interruption(finetune, reviews, monkeypatch):
    def interrupted(question):
        raise typer.Abort

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(typer, "prompt", interrupted)
    assert finetune("new", "mine.yaml") == (130, "\n", "")


# Layout


def lines_of(curves, *, width):
    file = io.StringIO()
    print_curves(curves, Console(file=file, width=width), x_title="update")
    return file.getvalue().splitlines()


def test_the_axis_of_updates_has_whole_numbers_below_their_places():
    curve = Curve("falling", list(range(50)), [1 - step / 49 for step in range(50)])
    axis = next(line for line in lines_of([curve], width=80) if line.split()[:1] == ["0"] and line.endswith("49"))
    assert axis.split() == ["0", "24", "49"]
    inside = axis[4:]  # after the numbers of the other axis
    assert inside.index("24") == pytest.approx(24 / 49 * (len(inside) - 1), abs=1)


def test_a_run_of_one_update_has_no_middle():
    numbers = [line.split() for line in lines_of([Curve("one", [0, 1], [1.0, 0.0])], width=40)]
    assert ["0", "1"] in numbers


@pytest.mark.parametrize(
    "arguments",
    [["list"], ["show", "wsd"], ["show", "one_cycle"], ["plot", "cosine", "step gamma=0.5"], ["plot", "--all"]],
)
def test_a_narrow_window_cuts_no_line(finetune, monkeypatch, arguments):
    monkeypatch.setenv("COLUMNS", "50")
    _, out, _ = finetune("schedules", *arguments)
    assert max(map(len, out.splitlines())) <= 50
    assert "…" not in out


def test_no_colour_where_none_is_wanted(finetune, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    coloured = finetune("schedules", "plot", "cosine", "linear")[1]
    monkeypatch.setenv("NO_COLOR", "1")
    plain = finetune("schedules", "plot", "cosine", "linear")[1]
    # As few colours as the terminal has, or as many as rich remembers of a test before.
    sign = re.compile(f"{ESCAPE}\\[38;[25];")
    assert sign.search(coloured)
    assert not sign.search(plain)
    assert "×" in plain  # signs tell the curves apart instead


@pytest.mark.parametrize("arguments", [["schedules", "list"], ["schedules", "plot", "cosine", "linear"], ["--help"]])
def test_a_file_gets_text_alone(finetune, monkeypatch, arguments):
    monkeypatch.setenv("TERM", "xterm-256color")
    _, out, err = finetune(*arguments)
    assert out
    assert not {ESCAPE, "\r"} & set(out + err)


def test_json_is_all_that_is_printed(finetune, small_recipe):
    code, out, err = finetune("check", small_recipe, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["name"] == "small"


@pytest.mark.slow
def test_a_run_in_a_log_file_has_lines_and_no_bar(finetune, small_recipe, monkeypatch):
    monkeypatch.chdir(small_recipe.parent)
    code, out, err = finetune(
        "run", small_recipe, "training.duration=3", "evaluation.every=null", "checkpoints.every=null"
    )
    assert (code, err) == (0, "")
    assert not {ESCAPE, "\r", "━"} & set(out)
    assert "3/3  epoch 0.23  rate " in out


def test_an_encoding_that_lacks_a_sign_gets_another(tmp_path):
    script = "from finetune.cli import main; main(['schedules', 'list'])"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"cosine" in done.stdout
