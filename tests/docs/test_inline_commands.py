"""The commands that stand within sentences, and the extras: their names and options are there."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command

from finetune.cli import app
from tests.docs.pages import PAGES, ROOT, called, page, words_of

COMMANDS = sorted({line for name in PAGES for line in re.findall(r"`(finetune [^`]+)`", page(name))})


@pytest.mark.parametrize("line", COMMANDS)
def test_it_names_what_there_is(line):
    command, words = get_command(app), words_of(line)[1:]
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        command = command.commands[words.pop(0)]
    options = {name for parameter in command.params for name in parameter.opts} | {"--help"}
    assert {word for word in words if word.startswith("-")} <= options


EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]


@pytest.mark.parametrize("name", PAGES)
def test_an_extra_that_is_to_be_installed_is_there(name):
    assert set(re.findall(r"finetune-schedules\[(\w+)\]", page(name))) <= set(EXTRAS)


def test_the_schema_is_written_as_the_readme_says(capsys):
    (line,) = [each for each in COMMANDS if each.startswith("finetune schema ")]
    command, file = line.split(" > ")
    assert called(command) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(Path(ROOT, "recipes", file).read_text(encoding="utf-8"))
