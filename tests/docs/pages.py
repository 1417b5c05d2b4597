"""The pages of the documentation, and the blocks of commands and code in them.

A test gets its commands and code from `lines` and `code`, when its module is imported, and so they are known to be
taken: `tests/docs/test_every_block.py` finds the blocks that no test takes.
"""

import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from finetune.cli import main

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PAGES = [
    *("README.md", "CONTRIBUTING.md"),
    *(path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").rglob("*.md"))),
]
FENCE, INDENT = "```", "    "


@dataclass(frozen=True)
class Block:
    """A fenced or an indented block; two are equal where they stand at the same place.

    `language`: of a fenced one, "" of an indented one. `headings`: those that it stands under, from the top.
    """

    page: str
    line: int
    language: str = field(compare=False)
    headings: tuple[str, ...] = field(compare=False)
    lines: tuple[str, ...] = field(compare=False)


TAKEN: set[Block] = set()
"""The blocks that the test modules imported so far have taken."""


def page(name: str) -> str:
    """Returns the text of a page, named from the repository's root."""
    return (ROOT / name).read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    """Returns what is under a heading, up to the next of the same level."""
    level = heading.split(" ", 1)[0]
    return text.split(f"\n{heading}\n", 1)[1].split(f"\n{level} ", 1)[0]


def blocks_of(name: str) -> Iterator[Block]:
    """Yields the fenced and the indented blocks of a page."""
    rows, headings, at = page(name).splitlines(), (), 0
    while at < len(rows):
        row, begun = rows[at], at
        at += 1
        if row.startswith(FENCE):
            at = rows.index(FENCE, at)
            yield Block(name, begun + 1, row.removeprefix(FENCE), headings, tuple(rows[begun + 1 : at]))
            at += 1
        elif row.startswith(INDENT):
            while at < len(rows) and rows[at].startswith(INDENT):
                at += 1
            told = "\n".join(row.removeprefix(INDENT) for row in rows[begun:at])
            yield Block(name, begun + 1, "", headings, tuple(re.sub(r"\\\n\s*", "", told).splitlines()))
        elif row.startswith("#"):
            above = len(row.partition(" ")[0])
            headings = (*(each for each in headings if len(each.partition(" ")[0]) < above), row)


def _take(name: str, language: str, heading: str, start: str) -> list[Block]:
    found = [
        block
        for block in blocks_of(name)
        if block.language == language and heading in ("", *block.headings) and block.lines[0].startswith(start)
    ]
    if not found:
        raise LookupError(f"{name} has no {language or 'indented'} block under {heading!r} that begins with {start!r}")
    TAKEN.update(found)
    return found


def code(name: str, language: str, heading: str = "") -> list[str]:
    """Takes the fenced blocks of a language, of a page or of what is under a heading of it; returns their texts."""
    return ["\n".join(block.lines) + "\n" for block in _take(name, language, heading, "")]


def lines(name: str, heading: str = "", start: str = "") -> list[str]:
    """Takes the indented blocks, of a page or of what is under a heading, that begin so; returns all their lines."""
    return [line for block in _take(name, "", heading, start) for line in block.lines]


def words_of(line: str) -> list[str]:
    """Returns the words of a command line without its comment."""
    return shlex.split(line, comments=True)


def called(line: str) -> int | str:
    """Runs a command line of `finetune` here; returns its exit code."""
    program, *arguments = words_of(line)
    assert program == "finetune", line
    with pytest.raises(SystemExit) as left:
        main(arguments)
    return left.value.code or 0
