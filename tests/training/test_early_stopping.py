"""Runs that end where evaluations get no better: when, what their record says, and what studies make of them."""

import io
import math
from types import SimpleNamespace

import pytest
from rich.console import Console
from transformers import TrainerControl

from finetune.errors import RunStopped
from finetune.evaluation.comparison import compare
from finetune.evaluation.record import RECORD, find_runs, read_history, read_record
from finetune.evaluation.runs import read_run
from finetune.recipe import load_study
from finetune.recipe.regularisation import EarlyStopping
from finetune.study import run_study
from finetune.training.early_stopping import StopsEarly
from tests.faults import assert_equal_outcomes, outcome

# At such a rate nothing is learned, and accuracy stays where it is.
FLAT = (
    *("optimizer.learning_rate=1e-9", "schedule={name: linear, warmup: 0}", "training.duration=30"),
    *("evaluation.every=4", "evaluation.early_stopping={patience: 2}", "checkpoints.every=6"),
)


def stopped_at(values, *, patience=2, min_delta=0.0, greater_is_better=True, resumed=0, planned=100):
    """Returns after which of evaluations, one an update, a run ends; those up to `resumed` are from its history."""
    settings = EarlyStopping(patience=patience, min_delta=min_delta)
    stopping = StopsEarly(settings, select="score", greater_is_better=greater_is_better)
    rows = [{"step": step, "evaluation": {"score": value}} for step, value in enumerate(values, start=1)]
    stopping.resume([{"step": 1, "rates": {}}, *rows[:resumed]])
    control = TrainerControl()
    state = SimpleNamespace(global_step=resumed, max_steps=planned)
    stopping.on_train_begin(None, state, control)
    for row in rows[resumed:]:
        if control.should_training_stop:
            break
        state.global_step = row["step"]
        stopping.on_evaluate(None, state, control, metrics=row["evaluation"])
    assert control.should_training_stop == (stopping.stopped_at_step is not None)
    return stopping.stopped_at_step, stopping.best_step


@pytest.mark.parametrize("resumed", range(6))
def test_a_run_ends_after_so_many_evaluations_without_a_better_one(resumed):
    assert stopped_at([0.5, 0.7, 0.6, 0.8, 0.8, 0.75, 0.9], resumed=resumed) == (6, 4)


def test_a_gain_must_be_more_than_the_least():
    assert stopped_at([0.5, 0.51, 0.52, 0.53], min_delta=0.015) == (None, 3)
    assert stopped_at([0.5, 0.51, 0.515, 0.6], min_delta=0.02) == (3, 1)


def test_of_errors_less_is_better():
    assert stopped_at([3.0, 2.0, 2.5, 2.1], greater_is_better=False) == (4, 2)


def test_what_is_not_finite_is_never_better():
    assert stopped_at([None, math.nan, 0.5]) == (2, None)
    assert stopped_at([0.5, math.nan, 0.6, math.inf, 0.4]) == (5, 3)


def test_the_last_evaluation_of_a_whole_run_stops_nothing():
    assert stopped_at([0.5, 0.4, 0.3], planned=3) == (None, 1)


@pytest.mark.slow
def test_the_record_says_that_the_schedule_was_cut_short(train):
    out = io.StringIO()
    record, run = train(*FLAT, out=out)
    assert record.stopped_early.model_dump() == {"step": 12, "planned": 30, "best_step": 4}
    assert record.schedule.total_steps == 30
    rates = [row["rates"]["decay"] for row in read_history(run) if "rates" in row]
    assert rates == pytest.approx([1e-9 * (1 - t / 30) for t in range(12)])
    assert record.results.kept_step == 4
    assert read_record(run) == record
    assert "cuts the schedule short" in " ".join(out.getvalue().split())
    assert "after update 12 of 30, none better than that of update 4; the schedule was cut short" in out.getvalue()
    (comparison,) = compare([read_run(run)])
    assert any(
        "linear: 1 of its 1 runs stopped early, after update 12 of 30: its schedule was cut short" in caution
        for caution in comparison.cautions
    )
    whole, _ = train("training.duration=4", "evaluation.every=null")
    assert "stopped_early" not in whole.model_dump()


@pytest.mark.slow
def test_a_run_that_is_to_end_early_goes_on_to_the_same_end(train, stop_in):
    _, run = train(*FLAT)
    expected = outcome(run)
    stop_in("training_step", lambda trainer: trainer.state.global_step == 9)
    with pytest.raises(RunStopped, match="after update 10"):
        train(*FLAT, repeat=True)
    record, _ = train(*FLAT)
    assert_equal_outcomes(outcome(run), expected)
    assert record.stopped_early.step == 12


@pytest.mark.slow
def test_a_run_stopped_in_the_test_split_after_its_early_end_trains_nothing_more(train, stop_in):
    _, run = train(*FLAT)
    expected = outcome(run)
    size = len(read_history(run))
    stop_in(
        "prediction_step",
        lambda trainer: trainer.state.global_step == 12 and trainer.control.should_training_stop,
    )
    with pytest.raises(RunStopped, match="after update 12"):
        train(*FLAT, repeat=True)
    assert not (run / RECORD).exists()
    record, _ = train(*FLAT)
    assert record.stopped_early.step == 12
    assert len(read_history(run)) == size
    assert_equal_outcomes(outcome(run), expected)


@pytest.mark.slow
def test_runs_of_a_study_that_stop_early_are_what_they_are_alone(small_recipe, tmp_path):
    text = """
training: {duration: 30}
optimizer: {learning_rate: 1.0e-9}
evaluation: {every: 4, keep: last, early_stopping: {patience: 2}}
checkpoints: {every: null}
study:
  keep_models: true
  grid:
    schedule: [constant, {name: wsd, cooldown: 10%}]
    training.seed: [0]
"""
    source = small_recipe.parent / "early.yaml"
    source.write_text(f"base: {small_recipe.name}\n{text}")
    made = {}
    for folder, apart in (("together", False), ("apart", True)):
        study = load_study(source, [f"output={tmp_path / folder}"])
        done = run_study(study, source=source, console=Console(file=io.StringIO()), apart=apart)
        made[folder] = {run.name: run for run in find_runs([done.directory])}
        assert [each.status for each in done.runs] == ["finished"] * 2
    assert made["together"].keys() == made["apart"].keys()
    for name, run in made["together"].items():
        assert read_record(run).stopped_early.step == 12
        assert_equal_outcomes(outcome(run), outcome(made["apart"][name]))
