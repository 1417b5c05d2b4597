"""The examples of CONTRIBUTING.md, made in a copy of the package as the page says, linted, and tested by their own tests."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.docs.pages import ROOT, code_in, page

PLACE = re.compile(r"# (?P<path>[\w/]+\.py)(?:, (?P<where>before|in|among) (?P<what>[\w ]+))?\n+")
SHARED = ["pyproject.toml", "tests/conftest.py", "tests/study/conftest.py", "tests/tiny.py"]


def put(folder, block):
    """Makes the change that a block of the page says, in the copy in `folder`; returns the file's path."""
    place = PLACE.match(block)
    path, code = folder / place["path"], block[place.end() :]
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    match place["where"], place["what"]:
        case None, None:
            text = f"{text}\n\n{code}" if text else code
        case "among", "the imports":
            text = re.sub(r"^from finetune\.", f"{code}from finetune.", text, count=1, flags=re.MULTILINE)
        case "before", name:
            text = re.sub(rf"^{name}\b", f"{code}\n\n{name}", text, count=1, flags=re.MULTILINE)
        case "in", name:
            text, count = re.subn(rf"^({name}\b.*{{)", rf"\1\n{code}", text, count=1, flags=re.MULTILINE)
            assert count == 1, block
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


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
    tests = [str(path) for path in sorted(files) if path.name.startswith("test_")]
    assert len(tests) == 5
    done = run_in(folder, "pytest", "-q", "-p", "no:cacheprovider", *tests)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\d+ passed", done.stdout, re.MULTILINE), done.stdout
