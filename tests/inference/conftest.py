"""A run of the tiny model that all tests here ask, and a copy of it to spoil."""

import io
import shutil

import pytest

from tests import tiny


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory, tiny_model, review_files):
    """The directory of a run of the small recipe, which has learnt to tell the sentences apart."""
    from rich.console import Console

    from finetune.recipe import load_recipe
    from finetune.training import fine_tune, run_directory

    folder = tmp_path_factory.mktemp("finished")
    for file in review_files.iterdir():
        shutil.copy(file, folder)
    path = tiny.write_recipe(folder, tiny_model)
    recipe = load_recipe(path, [f"output={folder / 'runs'}"])
    fine_tune(recipe, source=path, console=Console(file=io.StringIO()))
    return run_directory(recipe, source=path)


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
