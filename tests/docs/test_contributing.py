"""CONTRIBUTING.md: its examples, made in a copy of the package, linted, and tested by their own tests; and its map."""

import re
import shutil
from itertools import pairwise

import pytest

from tests.docs.changes import put, run_python
from tests.docs.pages import ROOT, code, lines
from tests.test_architecture import ARROWS

EXAMPLES = code("CONTRIBUTING.md", "python")
SHARED = [
    "pyproject.toml",
    *(
        f"tests/{name}.py"
        for name in ("conftest", "study/conftest", "tiny", "schedules/test_catalog", "schedules/test_rescaling")
    ),
]


@pytest.fixture(scope="module")
def changed(tmp_path_factory):
    """A copy of the package with every example in it, and the files that they change."""
    folder = tmp_path_factory.mktemp("repository")
    shutil.copytree(ROOT / "finetune", folder / "finetune", ignore=shutil.ignore_patterns("__pycache__"))
    for name in SHARED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder, {put(folder, block) for block in EXAMPLES}


def test_what_they_make_is_well_formed(changed):
    folder, files = changed
    sources = [str(path) for path in sorted(files)]
    for check in (["check", "--fix-only", "--select", "I"], ["format"], ["check"]):
        run_python(folder, "-m", "ruff", *check, "--no-cache", *sources)


@pytest.mark.slow
def test_their_tests_pass(changed):
    folder, files = changed
    added = {path for path in files if path.relative_to(folder).as_posix() not in SHARED}
    tests = [str(path) for path in sorted(added) if path.name.startswith("test_")]
    assert len(tests) == 4, "those of the schedule are run by test_newcomer.py"
    told = run_python(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)
    assert re.search(r"^\d+ passed", told, re.MULTILINE), told


MAP = lines("CONTRIBUTING.md", "## The map", "finetune/")
IMPORTS = lines("CONTRIBUTING.md", "## The map", "untrusted ")


def named_in(rows):
    """Returns the names at the beginnings of the map's rows, without the rows that go on with the one above."""
    begun = [re.match(r"[\w./]+(?:, [\w./]+)*", row) for row in rows]
    return {name.strip("/") for names in begun if names for name in names.group().split(", ")}


def test_every_folder_and_every_part_is_on_the_map():
    inner = [row[2:] for row in MAP if row.startswith("  ")]
    parts = {path.name for path in (ROOT / "finetune").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert named_in(inner) - {"finetune"} == parts - {"__init__.py", "__main__.py", "__pycache__"}
    assert {"finetune", "recipes", "scripts", "docs", "tests"} < named_in(MAP)
    assert all((ROOT / name).is_dir() for name in named_in(MAP))


def test_an_arrow_of_the_map_is_one_that_imports_may_follow():
    for row in IMPORTS:
        groups = [group.strip().split(", ") for group in row.split("◀")]
        for sources, takers in pairwise(groups):
            assert all(ARROWS[taker] & {*sources} for taker in takers), row
