"""The examples of CONTRIBUTING.md, made in a copy of the package as the page says, linted, and tested by their own tests."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.docs.changes import put
from tests.docs.pages import ROOT, code_in, page

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
    return folder, {put(folder, block) for block in code_in(page("CONTRIBUTING.md"), "python")}


def run_in(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_what_they_make_is_well_formed(changed):
    folder, files = changed
    sources = [str(path) for path in sorted(files)]
    for check in (["check", "--fix-only", "--select", "I"], ["format"], ["check"]):
        done = run_in(folder, "ruff", *check, "--no-cache", *sources)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_their_tests_pass(changed):
    folder, files = changed
    added = {path for path in files if path.relative_to(folder).as_posix() not in SHARED}
    tests = [str(path) for path in sorted(added) if path.name.startswith("test_")]
    assert len(tests) == 4, "those of the schedule are run by test_newcomer.py"
    done = run_in(folder, "pytest", "-q", "-p", "no:cacheprovider", *tests)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\d+ passed", done.stdout, re.MULTILINE), done.stdout
