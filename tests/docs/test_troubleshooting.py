"""docs/troubleshooting.md: every message that it quotes is one that the package has."""

import ast
import re
from pathlib import Path

import pytest

import finetune

PAGE = (Path(__file__).parents[2] / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
MESSAGES = re.findall(r"^\| `([^`]+)` \|", PAGE, re.MULTILINE)


def texts_of(tree):
    """Yields every text of a module but its docstrings, with … in place of what is put into it."""
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if id(node) in told:
            continue
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.fixture(scope="module")
def texts():
    """All texts of the package."""
    sources = sorted(Path(finetune.__file__).parent.rglob("*.py"))
    return [text for path in sources for text in texts_of(ast.parse(path.read_text(encoding="utf-8")))]


def test_there_are_messages():
    assert len(MESSAGES) > 40
    assert len(set(MESSAGES)) == len(MESSAGES)


@pytest.mark.parametrize("message", MESSAGES)
def test_a_quoted_message_is_one_of_the_packages(texts, message):
    pattern = re.compile(".*".join(map(re.escape, message.split("…"))), re.DOTALL)
    assert any(map(pattern.search, texts)), f"no text of finetune/ has {message!r}"
