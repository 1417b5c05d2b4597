"""Every command and every piece of code on a page is run by a test, or the page says that none runs it."""

import ast
from contextlib import suppress
from importlib import import_module

import pytest

from tests.docs.pages import PAGES, ROOT, TAKEN, blocks_of, page

NOT_RUN = {
    ("docs/offline.md", "hf download "): "needs the Hub",
    ("docs/offline.md", "pip wheel "): "needs the package index",
    ("docs/studies_on_ray.md", "pip install "): "needs the package index, and a cluster",
    ("docs/scaling.md", ".venv/bin/python scripts/bench/scaling.py "): "takes 20 seconds of a core",
}
"""Blocks by their beginnings; the page says next to each that no test runs it."""
DRAWN = {("docs/design.md", "data at hand ")}
"""Pictures made of letters."""


TAKERS = [
    path.relative_to(ROOT)
    for path in sorted((ROOT / "tests").rglob("test_*.py"))
    if "\nfrom tests.docs.pages import" in path.read_text(encoding="utf-8")
]


@pytest.fixture(scope="module")
def left_over():
    """The blocks that no test takes, by the page and the beginning that they are known by here, or else whole."""
    for path in TAKERS:
        with suppress(pytest.skip.Exception):
            import_module(".".join(path.with_suffix("").parts))
    known = [*NOT_RUN, *DRAWN]
    return {
        next((each for each in known if each[0] == name and block.lines[0].startswith(each[1])), block): block
        for name in PAGES
        for block in blocks_of(name)
        if block not in TAKEN
    }


def test_all_but_a_few_are_run(left_over):
    unknown = [f"{block.page}:{block.line}: {block.lines[0]}" for key, block in left_over.items() if key == block]
    assert not unknown, "a test takes these from tests/docs/pages.py, or they stand in NOT_RUN"
    assert {*left_over} == {*NOT_RUN} | DRAWN, "these are run, or no longer there"


@pytest.mark.parametrize("path", TAKERS, ids=str)
def test_what_is_taken_is_used(path):
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    used = {name.id for name in names if isinstance(name.ctx, ast.Load)}
    given = {name.id for each in tree.body if isinstance(each, ast.Assign) for name in ast.walk(each) if name in names}
    assert given - used <= {"_", "pytestmark"}


@pytest.mark.parametrize("key", NOT_RUN, ids=lambda key: key[1].strip())
def test_a_page_says_what_no_test_runs(left_over, key):
    block = left_over[key]
    rows = page(block.page).splitlines()
    before, after = "\n".join(rows[: block.line - 1]), "\n".join(rows[block.line - 1 + len(block.lines) :])
    beside = [text.strip().split("\n\n")[at] for text, at in ((before, -1), (after, 0))]
    assert any("no test runs " in paragraph for paragraph in beside)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("# A\n\n    a b\n    c \\\n      d\n\n    e\n", [("", ("a b", "c d")), ("", ("e",))]),
        ("```yaml\na: 1\n\n    b\n```\n", [("yaml", ("a: 1", "", "    b"))]),
        ("- a\n  b\n\n      c\n", [("", ("  c",))]),
    ],
)
def test_blocks_are_found(text, found, monkeypatch):
    monkeypatch.setattr("tests.docs.pages.page", lambda name: text)
    assert [(block.language, block.lines) for block in blocks_of("a.md")] == found
