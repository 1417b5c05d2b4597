"""What trackers are given of a run, and that it is trained the same without them. TensorBoard's files are the store."""

import io
import json
import sys
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers.integrations import TensorBoardCallback

from finetune.errors import SettingError
from finetune.evaluation.record import MODEL, read_history
from finetune.recipe import load_recipe
from finetune.training import check_trackers, run_directory
from finetune.training.material import Library
from finetune.training.tracking import TENSORBOARD, label_run
from finetune.training.trainer import ScheduledTrainer

TRACKED = "tracking=[tensorboard]"


def read_events(run):
    """Returns tag ▶ [(step, value)], and the text of the run's settings, of the one file there must be."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (file,) = (run / TENSORBOARD).iterdir()
    events = EventAccumulator(str(file), size_guidance={"scalars": 0, "tensors": 0}).Reload()
    scalars = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    (settings,) = events.Tensors("args/text_summary")
    return scalars, json.loads(settings.tensor_proto.string_val[0])


def expected_events(run, record):
    """What the history and the record of a run say, in float32, under the names that transformers gives."""
    expected = {}

    def expect(tag, step, value):
        expected.setdefault(tag, []).append((step, float(np.float32(value))))

    for row in read_history(run):
        if "evaluation" in row:
            for name, value in row["evaluation"].items():
                expect(f"eval/{name}", row["step"], value)
            continue
        for tag, key in (("loss", "loss"), ("grad_norm", "gradient_norm"), ("epoch", "epoch")):
            expect(f"train/{tag}", row["step"], row[key])
        for group, rate in row["rates"].items():
            expect(f"train/learning_rate/{group}", row["step"], rate)
    test = record.results.splits["test"]
    for name, value in {"loss": test.loss, **{name: score.value for name, score in test.metrics.items()}}.items():
        expect(f"test/{name}", record.results.kept_step, value)
    return expected


@pytest.mark.slow
def test_each_run_of_a_process_is_in_the_store_by_itself_as_it_is_on_record(train):
    for seed in (0, 1):
        record, run = train(TRACKED, f"training.seed={seed}", "training.duration=12", "schedule=linear")
        scalars, settings = read_events(run)
        assert scalars == expected_events(run, record)
        assert {"train/learning_rate/decay", "train/learning_rate/no_decay"} < scalars.keys()
        assert settings["schedule.name"] == "linear"
        assert settings["training.seed"] == seed
        assert settings["total_steps"] == 12


@pytest.mark.slow
def test_a_run_is_bit_equal_and_of_the_same_directory_without_tracking(train):
    record, run = train(TRACKED, "training.duration=12")
    tracked, losses = load_file(run / MODEL / "model.safetensors"), [row.get("loss") for row in read_history(run)]
    again, same = train("training.duration=12", repeat=True)
    assert same == run
    assert again.results == record.results
    assert [row.get("loss") for row in read_history(run)] == losses
    untracked = load_file(run / MODEL / "model.safetensors")
    assert all(torch.equal(tracked[name], untracked[name]) for name in tracked)
    assert not (run / TENSORBOARD).exists()


@pytest.mark.slow
def test_a_run_that_goes_on_after_an_interruption_is_in_the_store_from_its_beginning(train, monkeypatch):
    original = ScheduledTrainer.training_step

    def interrupt(self, *args, **kwargs):
        if self.state.global_step == 8:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    often = (TRACKED, "training.duration=12", "checkpoints.every=5", "evaluation.every=4")
    monkeypatch.setattr(ScheduledTrainer, "training_step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(*often)
    monkeypatch.setattr(ScheduledTrainer, "training_step", original)
    out = io.StringIO()
    record, run = train(*often, out=out)
    assert "after update 5" in out.getvalue()
    assert read_events(run)[0] == expected_events(run, record)


@pytest.mark.slow
def test_a_tracker_that_fails_on_the_way_is_told_of_and_ends_no_training(train, monkeypatch):
    def fail(*args, **kwargs):
        raise ConnectionError("no answer")

    monkeypatch.setattr(TensorBoardCallback, "on_log", fail)
    out = io.StringIO()
    record, _ = train(TRACKED, "training.duration=12", out=out)
    assert record.status == "finished"
    assert out.getvalue().count("tensorboard failed, and shows this run in part: no answer") == 1


def test_a_tracker_that_can_not_begin_is_an_error_before_the_first_update(train, monkeypatch):
    def fail(*args, **kwargs):
        raise ConnectionError("no answer")

    monkeypatch.setattr(TensorBoardCallback, "on_train_begin", fail)
    monkeypatch.setattr(ScheduledTrainer, "training_step", None)
    with pytest.raises(SettingError, match=r"^tracking: tensorboard can't begin a run: no answer$"):
        train(TRACKED)


def test_a_tracker_that_is_not_installed_is_an_error_before_any_data_is_read(train, monkeypatch):
    for name in ("mlflow", "wandb"):
        monkeypatch.setitem(sys.modules, name, None)  # makes it a library that can't be found
    monkeypatch.setattr(Library, "data", None)
    with pytest.raises(
        SettingError, match=r"^tracking: mlflow isn't installed: pip install 'finetune-schedules\[mlflow\]'$"
    ):
        train("tracking=[tensorboard, mlflow]")
    with pytest.raises(
        SettingError, match=r"mlflow, wandb aren't installed: pip install 'finetune-schedules\[mlflow,wandb\]'"
    ):
        check_trackers(["mlflow", "wandb"])


def test_the_files_that_wandb_leaves_are_not_taken_for_the_library(tmp_path, monkeypatch):
    (tmp_path / "wandb").mkdir()
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(SettingError, match="wandb isn't installed"):
        check_trackers(["wandb"])


@pytest.fixture
def plan(small_recipe, tmp_path):
    """As much of a plan as a label is made of."""
    recipe = load_recipe(small_recipe, [f"output={tmp_path / 'runs'}"])
    run = run_directory(recipe, source=small_recipe)
    return SimpleNamespace(recipe=recipe, run=run, horizon=SimpleNamespace(total_steps=26))


STARTED = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_a_run_is_called_as_its_directory_and_grouped_by_its_recipe(plan):
    label = label_run(plan, study=None, started=STARTED)
    assert (label.project, label.name) == ("small", plan.run.name)
    assert label.settings["optimizer.learning_rate"] == 5e-3
    assert label.settings["run"] == str(plan.run)


def test_the_runs_of_a_study_are_grouped_by_it_and_those_that_tune_are_called_so(plan):
    study = SimpleNamespace(name="rates", role="tuning")
    label = label_run(plan, study=study, started=STARTED)
    assert (label.project, label.name) == ("rates", f"tuning-{plan.run.name}")
    assert label.settings["study.role"] == "tuning"


def test_a_run_begun_before_has_its_start_in_its_name(plan):
    plan.run.mkdir(parents=True)
    (plan.run / "recipe.yaml").touch()
    assert label_run(plan, study=None, started=STARTED).name == f"{plan.run.name}-20300102T030405Z"


def test_tracking_is_no_part_of_what_a_run_is(small_recipe):
    one, other = (load_recipe(small_recipe, overrides) for overrides in ([], ["tracking=[mlflow, wandb]"]))
    assert run_directory(one, source=small_recipe) == run_directory(other, source=small_recipe)
