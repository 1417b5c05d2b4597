"""The README's commands, as a newcomer types them."""

import csv
import re
import shlex
from pathlib import Path

import pytest

from finetune.cli import main
from tests import tiny

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands(heading):
    """Returns the command lines of the first block under a heading, without their comments."""
    section = README.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    block = re.search(r"(?:^    .+\n)+", section, re.MULTILINE).group()
    return [shlex.split(line, comments=True) for line in block.splitlines()]


@pytest.mark.slow
def test_ones_own_data_comes_to_a_comparison(tmp_path, monkeypatch, capsys, tiny_model):
    monkeypatch.chdir(tmp_path)
    with Path("reviews.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["idx", "sentence", "label"])
        writer.writeheader()
        writer.writerows(tiny.sentences(120, seed=1))
    for words in commands("Your own data"):
        assert words[0] == "finetune"
        with pytest.raises(SystemExit) as left:
            main([str(tiny_model) if word.startswith("google-bert/") else word for word in words[1:]])
        assert not left.value.code, capsys.readouterr()
    out = capsys.readouterr().out
    assert "cosine" in out
    assert "step" in out
    assert "report.html" in out
    assert "<svg" in Path("report.html").read_text(encoding="utf-8")
