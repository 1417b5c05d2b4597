"""What a worker of a cluster does, in this process: what it refuses, and runs that are brought back from it."""

import os
import pickle
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from finetune.evaluation.record import RECIPE, RECORD, read_record
from finetune.recipe import load_study
from finetune.schedules import SCHEDULES
from finetune.study.engines import worker
from finetune.study.engines.dispatch import Trunk
from finetune.study.engines.luggage import pack, unpack
from finetune.study.engines.sameness import findings, inputs_of
from finetune.study.engines.worker import Charter, Order, answer, inspect
from finetune.study.groves import plan_groves
from finetune.study.jobs import final_jobs
from finetune.training import run_directory
from finetune.training.material import Library
from tests.faults import assert_equal_runs

STUDY = """
training: {duration: 12}
evaluation: {every: null, keep: last}
checkpoints: {every: null}
study:
  keep_models: true
  grid:
    schedule: [{name: constant, warmup: 6}, {name: plugged_fall, warmup: 6}]
    training.seed: [0]
plugins: [mine.py]
"""
PLUGIN = """
from finetune import register_schedule

@register_schedule("plugged_fall")
def fall(progress, *, power=2.0):
    return (1 - progress) ** power
"""


@pytest.fixture
def process(monkeypatch, tmp_path):
    """Leaves this process as it was before it was a worker."""
    monkeypatch.setattr(worker, "SEEN_WITHIN", 0.0)
    monkeypatch.chdir(tmp_path)
    threads, handlers = torch.get_num_threads(), {each: signal.getsignal(each) for each in (2, 15)}
    environment = dict(os.environ)
    yield
    torch.set_num_threads(threads)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    os.environ.clear()
    os.environ.update(environment)


@pytest.fixture
def source(write_study, tmp_path):
    (tmp_path / "mine.py").write_text(PLUGIN)
    yield write_study("at_work", STUDY)
    SCHEDULES.pop("plugged_fall", None)


@pytest.fixture
def study(source, process):
    return load_study(source, allow_plugins=True)


@pytest.fixture
def charter(study, source, tmp_path):
    """That of the study where runs are fetched."""
    plugin = tmp_path / "mine.py"
    return Charter(
        key="1",
        source=source.resolve(),
        directory=tmp_path,
        here=findings(inputs_of(setting.recipe for setting in study.settings)),
        mark=None,
        plugins=((plugin, plugin.read_bytes()),),
        environment={},
        cpus=1,
        keep_model=True,
        trust_remote_code=False,
    )


@pytest.fixture
def mark(tmp_path):
    folder = tmp_path / "shared"
    folder.mkdir()
    (folder / ".mark").write_text("of this study")
    return folder / ".mark", "of this study"


def asked(charter):
    return inspect(pickle.dumps(charter))


def test_a_worker_that_has_all_lacks_nothing(charter, mark):
    assert asked(charter) == asked(replace(charter, mark=mark)) == ()
    assert [path.name for path in mark[0].parent.iterdir()] == [".mark"]


def test_a_folder_that_isnt_shared_is_told_with_both_remedies(charter, mark):
    path, content = mark
    path.unlink()
    (fault,) = asked(replace(charter, mark=mark))
    assert fault == (
        f"{path.parent} isn't the folder that the study writes to: set output to a folder that all machines share, or "
        "pass --fetch to have records brought back"
    )
    path.write_text("of another, by chance of the same name")
    assert asked(replace(charter, mark=(path, content))) == (fault,)


def test_another_version_is_refused_at_every_order_too(charter):
    other = replace(charter, key="2", here=replace(charter.here, package="0" * 64))
    refused = pickle.loads(answer(pickle.dumps(other), b"", None, []))
    assert refused.refused == asked(other)
    assert "the hash of its files is" in refused.refused[0]


def test_data_that_isnt_there_is_refused(charter, tmp_path):
    (tmp_path / "train.csv").unlink()
    (fault,) = asked(charter)
    assert fault.startswith(f"{tmp_path / 'train.csv'} isn't there: put it on a file system that all machines share")


def test_a_recipe_behind_a_link_is_refused(charter, tmp_path):
    link = tmp_path / "link.yaml"
    link.symlink_to(charter.source)
    (fault,) = asked(replace(charter, source=link))
    assert fault == f"{link} leads elsewhere by a link: give the recipe by a path without links"


def test_variables_that_decide_what_a_run_does_are_taken_over(charter, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    asked(replace(charter, environment={"ACCELERATE_MIXED_PRECISION": "no"}))
    assert os.environ["ACCELERATE_MIXED_PRECISION"] == "no"


@pytest.mark.slow
def test_runs_brought_back_say_what_those_made_here_do(charter, study, source, tmp_path):
    """A trunk and what goes on from it, made in folders of a worker's own, beside runs in their own place."""
    grove, *others = plan_groves(list(final_jobs(study, {})), library=Library())
    assert not others
    trunk, *branches = grove.steps

    def make(charter, step, start=None, luggage=None):
        return pickle.loads(answer(pickle.dumps(charter), pickle.dumps(Order(step, start)), luggage, []))

    folder = trunk.folder(source=source)
    begun = make(charter, trunk)
    assert (begun.has_trunk, begun.done, len(begun.luggage)) == (True, (), 1)
    start = Trunk(folder, trunk.until)
    away = tmp_path / "away"
    for step in branches:
        ended = make(charter, step, start, begun.luggage[0])
        assert [done.status for done in ended.done] == ["finished"]
        assert [done.job for done in ended.done] == list(step.ending)
        unpack(ended.luggage[0], away / run_directory(step.ending[0].recipe, source=source).name)
    output = Path(study.settings[0].recipe.output)
    assert not output.exists()

    # A plugin that isn't at its place is run from what was sent.
    plugin = tmp_path / "mine.py"
    moved = tmp_path / "moved.py"
    shutil.move(plugin, moved)
    here = replace(charter, key="3", mark=(source, source.read_text()))
    make(here, trunk)
    shutil.move(moved, plugin)
    for step in branches:
        made = make(here, step, start)
        run = run_directory(step.ending[0].recipe, source=source)
        assert (made.luggage, read_record(run).continued.step) == ((), trunk.until)
        assert_equal_runs(run, away / run.name)
        assert (run / RECIPE).read_text() == (away / run.name / RECIPE).read_text()
        assert read_record(run).recipe == read_record(away / run.name).recipe
        assert str(plugin) in (run / RECIPE).read_text()


def test_a_folder_arrives_whole_and_without_its_lock(tmp_path):
    (tmp_path / "run" / "sub").mkdir(parents=True)
    (tmp_path / "run" / "sub" / RECORD).write_text("{}")
    (tmp_path / "run" / ".running").write_text("process 1")
    (tmp_path / "there" / "run").mkdir(parents=True)
    (tmp_path / "there" / "run" / "left").touch()
    unpack(pack(tmp_path / "run"), tmp_path / "there" / "run")
    found = sorted(str(path.relative_to(tmp_path / "there")) for path in (tmp_path / "there").rglob("*"))
    assert found == ["run", "run/sub", f"run/sub/{RECORD}"]
