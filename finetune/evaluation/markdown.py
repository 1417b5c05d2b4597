"""Text from elsewhere as Markdown in which it is nothing but text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from finetune.untrusted import visible

LONGEST = 200

_MARKUP: Mapping[int, str] = str.maketrans(
    {**{sign: f"\\{sign}" for sign in "\\`*_[]#|~"}, "<": "&lt;", ">": "&gt;", "&": "&amp;", "\n": " "}
)


def escaped(text: str) -> str:
    """Returns `text` without markup: what is written in it is what is seen."""
    return visible(text).translate(_MARKUP)


def code(text: str, *, in_table: bool = False) -> str:
    """Returns `text` as code in a line, in which nothing is markup, an address neither; cut where it is long.

    Between as many backticks as it doesn't have itself; in a table even code can't have a bare bar.
    """
    line = " ".join(visible(text).split())
    line = line if len(line) <= LONGEST else f"{line[:LONGEST]}…"
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    space = " " if not line or line[0] == "`" or line[-1] == "`" else ""
    shown = line.replace("|", r"\|") if in_table else line
    return f"{fence}{space}{shown}{space}{fence}"


def code_block(text: str) -> str:
    """Returns `text` as lines of code, each set in, so that none can end the block."""
    return "\n".join(f"    {line}".rstrip() for line in visible(text).rstrip("\n").split("\n"))


def table_line(cells: Iterable[str], escape: Callable[[str], str] = escaped) -> str:
    """Returns a row of a table."""
    return f"| {' | '.join(map(escape, cells))} |"


def table(columns: Iterable[str], rows: Iterable[Iterable[str]], *, labels: int = 1) -> str:
    """Returns a whole table of cells that are Markdown already; after the first `labels` columns they are figures."""
    head = list(columns)
    rules = [":--" if place < labels else "--:" for place in range(len(head))]
    return "\n".join(table_line(line, str) for line in (head, rules, *rows))
