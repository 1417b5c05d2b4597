"""A copy of the finished run to spoil."""

import shutil

import pytest


@pytest.fixture
def copied_run(finished_run, tmp_path):
    """A copy of the run's directory."""
    folder = tmp_path / "copied"
    shutil.copytree(finished_run, folder)
    return folder
