"""The pages of the documentation, and the commands and code in them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def page(name):
    """Returns the text of a page, named from the repository's root."""
    return (ROOT / name).read_text(encoding="utf-8")


def section(text, heading):
    """Returns what is under a heading, up to the next of the same level."""
    level = heading.split(" ", 1)[0]
    return text.split(f"\n{heading}\n", 1)[1].split(f"\n{level} ", 1)[0]


def code_in(text, language):
    """Returns the fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands_in(text, program="finetune "):
    """Returns the lines of indented blocks that run a program, in order."""
    return re.findall(rf"^    ({program}.+)$", text, re.MULTILINE)
