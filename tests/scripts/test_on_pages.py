"""The scripts that the README and CONTRIBUTING.md name, with programs in place of those that they start."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, lines, words_of

QUICKSTART = lines("README.md", "## The quickstart", "accelerate launch ")
FIRST = lines("README.md", "# finetune", "scripts/quickstart")
*SCRIPTS, WRITE = lines("CONTRIBUTING.md", start="scripts/check")
(ON_RAY,) = lines("CONTRIBUTING.md", start=".venv/bin/pip")

# Writes down how it is called; as python it finds no GPU.
PROGRAM = """#!/usr/bin/env bash
echo "${0##*/} $*" >> "$CALLS"
case "$*" in *is_available*) exit 1 ;; esac
"""
OF_PYTEST = "python -m pytest --numprocesses logical --maxprocesses 4"


@pytest.fixture
def give(tmp_path):
    """A function that gives a shell a line in a copy of the repository's scripts; returns the calls, and the output."""
    folder = tmp_path / "repository"
    shutil.copytree(ROOT / "scripts", folder / "scripts", ignore=shutil.ignore_patterns("bench", "__pycache__"))
    shutil.copytree(ROOT / ".ci", folder / ".ci")
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    paths = [folder / "scripts" / "venv"]
    paths += [programs / name for name in ("python", "pip", "ruff", "mypy", "accelerate", "finetune")]
    for path in paths:
        path.write_text(PROGRAM)
        path.chmod(0o755)

    def give(line):
        done = subprocess.run(
            ["bash", "-ec", line],
            cwd=folder,
            env=os.environ | {"CALLS": str(tmp_path / "calls")},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return (tmp_path / "calls").read_text().splitlines(), done.stdout

    return give


def test_the_quickstart_gives_the_commands_that_the_readme_shows(give):
    calls, out = give(FIRST[0])
    assert [words_of(line.removeprefix("$ ")) for line in out.splitlines() if line] == [
        words_of(line) for line in QUICKSTART
    ]
    assert calls[:2] == ["venv quickstart", "python scripts/fetch_assets.py"]
    assert calls[3:] == [" ".join(words_of(line)) for line in QUICKSTART]


@pytest.mark.parametrize(
    "line", [FIRST[1], *(line for line in SCRIPTS if "smoke" not in line)], ids=lambda line: line.partition("  ")[0]
)
def test_a_script_starts_what_it_is_said_to(give, line):
    name, *arguments = words_of(line)
    started = {
        "scripts/test": [f"{OF_PYTEST} {' '.join(arguments)}".strip()],
        "scripts/check": ["ruff format --check .", "ruff check .", "mypy "],
        "scripts/docs": ["python -m mkdocs build --strict"],
        "scripts/faults": ["python -m tests.inject"],
    }[name]
    calls, _ = give(line)
    assert calls[0].startswith("venv ")
    assert [call for call in calls if call in started] == started
    assert all((ROOT / path).exists() for path in arguments if "/" in path)


def test_the_pages_that_are_written_are_checked_as_it_is_said():
    done = subprocess.run(
        ["bash", "-ec", WRITE.replace(".venv/bin/python", sys.executable)], cwd=ROOT, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_tests_on_ray_are_started_as_it_is_said(give):
    calls, _ = give(ON_RAY)
    assert calls == [
        "pip install -e .[ray]",
        "venv dev quickstart",
        f"{OF_PYTEST} {ON_RAY.partition('scripts/test ')[2]}",
    ]
    assert "ray" in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert Path(ROOT, ON_RAY.split()[-1]).is_file()
