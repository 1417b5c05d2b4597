"""The lines of the pages that compare runs, on records."""

import json
import re
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from tests.docs.pages import BIN, called, lines, words_of

COMPARED = [
    *lines("README.md", "## Comparing"),
    *lines("docs/comparing.md", start="finetune compare"),
    *lines("docs/studies/README.md"),
]
(FOR_PROGRAMS,) = lines("README.md", "## For programs")


@pytest.fixture
def recorded(tmp_path, monkeypatch, save, study):
    """A function that has the runs of a line of a page recorded, in the folder that it is run in."""
    monkeypatch.chdir(tmp_path)

    def recorded(line):
        (folder,) = re.findall(r"\bruns/\w+", line)
        for number, record in enumerate(study({"cosine": [0.85, 0.86], "step": [0.87, 0.89]})):
            save(record, f"{folder}/run{number}")

    return recorded


@pytest.mark.parametrize("line", COMPARED, ids=lambda line: line.partition("  ")[0])
def test_runs_are_compared_as_a_page_says(recorded, line, capsys):
    recorded(line)
    assert called(line) == 0
    words = words_of(line)
    written = [Path(name) for option, name in pairwise(words) if option.startswith("--")]
    assert all(path.exists() for path in written)
    assert "step" in capsys.readouterr().out


def test_what_else_a_comment_names_is_taken(recorded):
    line = COMPARED[0]
    recorded(line)
    given = {"csv": "a.csv", "parquet": "a.parquet", "markdown": "a.md", "figures": "figures", "json": ""}
    options = re.findall(r"--(\w+)", line.partition("#")[2])
    assert options
    for option in options:
        assert called(f"{line.partition(' --')[0]} --{option} {given[option]}") == 0
        assert Path(given[option]).exists()


def test_a_program_gets_json_as_the_readme_says(recorded):
    recorded(FOR_PROGRAMS)
    subprocess.run(["bash", "-ec", f"PATH={BIN}:$PATH\n{FOR_PROGRAMS}"], check=True)
    assert "step" in json.dumps(json.loads(Path("comparison.json").read_text(encoding="utf-8")))
