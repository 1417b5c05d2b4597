"""scripts/smoke, with programs in place of Python and of what is installed: which it tries, and what it makes of a failure."""

import os
import shutil
import subprocess

import pytest

from tests.docs.pages import ROOT, lines, words_of

SMOKE = next(line for line in lines("CONTRIBUTING.md", start="scripts/check") if line.startswith("scripts/smoke"))

PYTHON = """#!/usr/bin/env bash
echo "${0##*/} $*" >> "$CALLS"
case "$*" in
    "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; cp "$FINETUNE" "$3/bin/finetune" ;;
    "-m build "*) mkdir "$4"; touch "$4/own-1.whl" "$4/own-1.tar.gz" ;;
    *platform*) echo "${0##*python}.9" ;;
esac
"""
ABSENT = "#!/bin/sh\nexit 127\n"  # as a version manager answers for a Python that isn't chosen
FINETUNE = """#!/usr/bin/env bash
echo "finetune $*" >> "$CALLS"
case "$*" in
    "$FAILS"*) echo "it failed" >&2; exit 1 ;;
    "check bert_sst2") echo "nyu-mll/glue isn't here"; exit 2 ;;
    study*) mkdir -p runs/mine/one; touch runs/mine/one/record.json ;;
esac
"""


@pytest.fixture
def smoke(tmp_path):
    """A function that runs the script where there are python3.12 and python3.13; returns what came of it, and the calls."""
    folder, programs, calls = tmp_path / "repository", tmp_path / "bin", tmp_path / "calls"
    (folder / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "smoke", folder / "scripts")
    programs.mkdir()
    own = {"python3.12": PYTHON, "python3.13": PYTHON, "python3.11": ABSENT, "python3.14": ABSENT, "finetune": FINETUNE}
    for name, text in own.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)

    def run(fails):
        told = {"CALLS": str(calls), "FAILS": fails, "FINETUNE": str(programs / "finetune")}
        done = subprocess.run(
            words_of(SMOKE),
            cwd=folder,
            env=os.environ | told | {"PATH": f"{programs}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done, calls.read_text().splitlines()

    return run


def test_each_distribution_is_tried_with_each_python(smoke):
    done, calls = smoke(fails="nothing")
    assert (done.returncode, done.stderr) == (0, "")
    tried = [f"Python 3.{minor}.9, {kind}: passed" for minor in (12, 13) for kind in ("gz", "whl")]
    assert sorted(done.stdout.splitlines()) == tried
    assert calls.count("finetune compare runs/mine --html report.html") == len(tried)


@pytest.mark.parametrize("fails", ["new ", "compare ", "predict ", "launch "])
def test_a_command_that_fails_ends_it_and_is_shown(smoke, fails):
    done, calls = smoke(fails=fails)
    assert done.returncode == 1
    assert "it failed" in done.stderr
    assert "Python 3.12.9" in done.stderr
    assert "FAILED" in done.stderr
    assert calls[-1].startswith(f"finetune {fails}")
