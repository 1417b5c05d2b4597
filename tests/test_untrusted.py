"""Text from elsewhere: it commands no terminal, in no message and no table, and holds no secret of the environment."""

import io
import pickle

import pytest
from rich.console import Console

from finetune.errors import DataError, SettingError
from finetune.training.progress import say
from finetune.untrusted import presentable, visible

RED, CLEAR, TITLE = "\x1b[31m", "\x1b[2J", "\x1b]0;owned\x07"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (RED, r"\x1b[31m"),
        (TITLE, r"\x1b]0;owned\x07"),
        ("over\rwritten", r"over\rwritten"),
        ("\x9b31m", r"\x9b31m"),  # the same command in one byte
        ("\u202edesrever", r"\u202edesrever"),
        ("\ud800", r"\ud800"),  # which can't be printed
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("Größe × 3 – 日本語 😀", "Größe × 3 – 日本語 😀"),
    ],
)
def test_what_commands_a_terminal_is_spelt_out(text, shown):
    assert visible(text) == shown


@pytest.mark.parametrize("name", ["HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "my_password", "apikey"])
def test_the_value_of_a_variable_that_holds_a_secret_is_hidden(monkeypatch, name):
    monkeypatch.setenv(name, "correct-horse-battery")
    assert presentable("refused: Bearer correct-horse-battery") == "refused: Bearer ***"


def test_a_short_value_is_no_secret(monkeypatch):
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    assert presentable("false") == "false"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:p@ss@host/data.csv", "https://***@host/data.csv"),
        ("/here/https:/user:pass@host/data.csv", "/here/https:/***@host/data.csv"),  # as pathlib writes it
        ("hf_abcdefghijklmnopqrstuvwxyz", "***"),
        ("https://host/user@example", "https://host/user@example"),
        ("/data/run@2: no such file", "/data/run@2: no such file"),
    ],
)
def test_what_opens_a_door_is_hidden(text, shown):
    assert presentable(text) == shown


def test_an_error_is_presentable_in_all_its_parts(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "correct-horse-battery")
    error = SettingError("label", f"{RED}correct-horse-battery")
    assert (error.problem, str(error)) == (r"\x1b[31m***", r"label: \x1b[31m***")
    assert str(pickle.loads(pickle.dumps(error.within("task")))) == r"task.label: \x1b[31m***"
    assert str(DataError(CLEAR)) == r"\x1b[2J"


def test_what_is_said_on_a_terminal_is_plain():
    out = io.StringIO()
    say(Console(file=out, force_terminal=True), f"[bold red]x[/] :bomb: {CLEAR}")
    assert out.getvalue() == "[bold red]x[/] :bomb: \\x1b[2J\n"
