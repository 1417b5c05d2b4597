"""The shell scripts: well-formed, executable, and run from anywhere."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = [ROOT / "scripts" / name for name in ("venv", "test", "check", "docs", "quickstart", "smoke")] + [
    ROOT / ".ci" / "run"
]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_it_is_executable_and_parses(script):
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0


def test_ci_calls_the_readmes_own_command():
    assert "scripts/test" in (ROOT / ".ci" / "run").read_text().split()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "    scripts/quickstart " in readme
    assert "    scripts/test " in readme


def test_the_site_is_built_with_warnings_as_errors():
    (build,) = [line for line in (ROOT / "scripts" / "docs").read_text().splitlines() if " mkdocs build" in line]
    assert build.endswith("mkdocs build --strict"), "under --quiet mkdocs counts no warnings"


@pytest.fixture
def repository(tmp_path):
    """A copy of scripts/venv with a python3 that writes down how it is called instead of installing."""
    for name in ("scripts/venv", "pyproject.toml", "constraints.txt"):
        target = tmp_path / "repository" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
        target.chmod(0o755)
    python = tmp_path / "bin" / "python3"
    python.parent.mkdir()
    python.write_text(
        "#!/bin/bash\n"
        'case "$*" in\n'
        '  "-c import sys"*) exit 0 ;;\n'
        '  "-m venv .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;\n'
        f'  *) echo "$*" >> {tmp_path}/calls; exit "${{PIP_EXIT:-0}}" ;;\n'
        "esac\n"
    )
    python.chmod(0o755)

    def venv(*extras, pip_exit=0):
        done = subprocess.run(
            [tmp_path / "repository" / "scripts" / "venv", *extras],
            cwd=tmp_path,
            env={"PATH": f"{python.parent}:/usr/bin:/bin", "PIP_EXIT": str(pip_exit)},
            capture_output=True,
            text=True,
            check=False,
        )
        calls = tmp_path / "calls"
        installs = [call for call in calls.read_text().splitlines() if "--editable" in call] if calls.exists() else []
        calls.unlink(missing_ok=True)
        return done, installs

    return venv


def test_the_first_call_installs_and_the_second_does_nothing(repository):
    done, installs = repository("dev")
    assert done.returncode == 0, done.stderr
    assert len(installs) == 1
    assert installs[0].endswith("--constraint constraints.txt --editable .[dev]")
    assert repository("dev")[1] == []


def test_extras_add_up(repository):
    repository("quickstart")
    _, installs = repository("dev")
    assert installs[0].endswith(".[dev,quickstart]")
    assert repository("quickstart")[1] == []


def test_a_change_of_the_constraints_installs_again(repository, tmp_path):
    repository("dev")
    with (tmp_path / "repository" / "constraints.txt").open("a") as file:
        file.write("# changed\n")
    assert len(repository("dev")[1]) == 1


def test_a_failed_installation_is_tried_again(repository):
    done, _ = repository("dev", pip_exit=1)
    assert done.returncode == 1
    assert "installing failed" in done.stderr
    assert len(repository("dev")[1]) == 1


def test_without_a_python_there_is_one_message(repository, tmp_path):
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("bash", "cat", "dirname", "env", "paste", "rm", "sed", "sort", "tr"):
        (programs / name).symlink_to(shutil.which(name))
    done = subprocess.run(
        [tmp_path / "repository" / "scripts" / "venv"],
        env={"PATH": str(programs)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "scripts/venv: no Python 3.11 or newer was found on the PATH; install one\n"
