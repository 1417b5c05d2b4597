"""The command line, and a copy of the finished run to spoil."""

import shutil

import pytest


@pytest.fixture
def copied_run(finished_run, tmp_path):
    """A copy of the run's directory."""
    folder = tmp_path / "copied"
    shutil.copytree(finished_run, folder)
    return folder


@pytest.fixture
def finetune(capfd):
    """Runs a command of the command line; returns its exit code and what it printed to each stream."""
    from finetune.cli import main

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main([str(each) for each in arguments])
        out, err = capfd.readouterr()
        return end.value.code, out, err

    return run
