"""What a newcomer does by the README and CONTRIBUTING.md alone, literally, in a copy of the repository of their own."""

import csv
import re
import shutil

import pytest

from tests import tiny
from tests.docs.changes import put, run_python
from tests.docs.pages import ROOT, code, lines, words_of

LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "assets", "runs", "site", "build", "dist", "*.egg-info")


OWN_DATA = lines("README.md", "## Your own data")
CHANGES, STEPS = code("CONTRIBUTING.md", "python", "### A schedule"), lines("CONTRIBUTING.md", "### A schedule")
CHANGED = {
    "finetune/schedules/catalog.py",
    "tests/schedules/test_catalog.py",
    "tests/schedules/test_rescaling.py",
    "docs/gallery.md",
    "docs/gallery/concave.svg",
    "docs/recipe.md",
    "docs/schedules.svg",
    "recipes/recipe.schema.json",
}
CHECKS = (
    "tests/docs/test_gallery.py",
    "tests/recipe/test_json_schema.py",
    "tests/schedules/test_agreement.py::test_the_readme_has_the_table_that_is_tested",
    "tests/schedules/test_catalog.py::test_every_schedule_has_landmarks",
    "tests/schedules/test_rescaling.py::test_every_schedule_is_among_them",
    "tests/test_cli_schedules.py::test_the_picture_of_the_readme_is_what_its_command_draws",
)
"""What the repository asks of a schedule, and of its documentation."""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the repository, without what isn't committed to it."""
    return shutil.copytree(ROOT, tmp_path_factory.mktemp("newcomer") / "finetune", ignore=LEFT_OUT, symlinks=True)


@pytest.fixture
def type_in(checkout):
    """A function that runs a command line of a page in a folder, with the checkout's code; returns what it printed."""
    own = {
        "finetune": ["-m", "finetune"],
        ".venv/bin/python": [],
        "scripts/test": ["-m", "pytest", "-q", "-p", "no:cacheprovider"],
    }

    def run(line, folder=checkout):
        program, *arguments = words_of(line)
        return run_python(checkout, *own[program], *arguments, folder=folder)

    return run


def changed_since(before, folder):
    """Returns the files under a folder whose content isn't that of `before`, and what is there now."""
    now = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    return {name for name, content in now.items() if before.get(name) != content}, now


@pytest.mark.slow
def test_from_nothing_to_a_comparison_of_ones_own_data(type_in, tmp_path, tiny_model):
    with (tmp_path / "reviews.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["idx", "sentence", "label"])
        writer.writeheader()
        writer.writerows(tiny.sentences(120, seed=1))
    printed = [type_in(re.sub(r"google-bert/\S+", str(tiny_model), line), tmp_path) for line in OWN_DATA]
    assert {"cosine", "step"} <= set(re.findall(r"\w+", printed[-1]))
    assert "<svg" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_schedule_is_added_with_its_test_and_its_documentation(type_in, checkout):
    _, before = changed_since({}, checkout)
    for change in CHANGES:
        put(checkout, change)
    for line in STEPS:
        type_in(line)
    changed, now = changed_since(before, checkout)
    assert changed == CHANGED
    assert b"1 is linear, and the greater it is, the later the rate falls" in now["docs/recipe.md"]
    assert "concave" in type_in("finetune schedules list")
    type_in(f"scripts/test -n 0 {' '.join(CHECKS)}")
