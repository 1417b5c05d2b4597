"""What a run goes on from: its own checkpoint, or another run's under another schedule; and what is refused."""

import io
import shutil

import pytest
from safetensors.torch import load_file, save_file

from finetune.errors import RecordError, ResumeError, RunStopped, SettingError
from finetune.evaluation.record import read_history
from finetune.recipe import load_recipe
from finetune.training import run_directory
from finetune.training.cooldown import request_cooldown
from finetune.training.trainer import ScheduledTrainer
from tests.faults import assert_equal_outcomes, outcome

SHORT = ("training.duration=20", "evaluation.every=5", "checkpoints.every=5", "schedule={name: linear, warmup: 0}")


def short(*overrides):
    """The overrides of a run of 20 updates, some of them replaced."""
    replaced = {override.partition("=")[0] for override in overrides}
    return (*(each for each in SHORT if each.partition("=")[0] not in replaced), *overrides)


@pytest.fixture
def run_short(train):
    """A function that runs `short(…)`; returns its record and its directory."""
    return lambda *overrides, **options: train(*short(*overrides), **options)


@pytest.fixture
def interrupted(run_short, stop_in, small_recipe):
    """A function that stops a run of `SHORT` after an update; returns its directory."""

    def make(*overrides, after=12):
        stop_in("training_step", lambda trainer: trainer.state.global_step == after - 1)
        with pytest.raises(RunStopped, match=f"stopped after update {after}, on SIGTERM"):
            run_short(*overrides)
        output = f"output={small_recipe.parent / 'runs'}"
        return run_directory(load_recipe(small_recipe, [output, *short(*overrides)]), source=small_recipe)

    return make


def rates(run):
    return [row["rates"]["decay"] for row in read_history(run) if "rates" in row]


@pytest.mark.slow
@pytest.mark.parametrize("after", [5, 20])
def test_a_run_stopped_in_an_evaluation_makes_it_when_it_goes_on(run_short, stop_in, after):
    _, run = run_short()
    expected = outcome(run)
    stop_in("prediction_step", lambda trainer: trainer.state.global_step == after)
    with pytest.raises(RunStopped, match=f"stopped after update {after}, on SIGTERM"):
        run_short(repeat=True)
    assert {row["step"] for row in read_history(run) if "evaluation" in row} == set(range(5, after, 5))
    out = io.StringIO()
    run_short(out=out)
    assert f"after update {after}" in out.getvalue()
    assert_equal_outcomes(outcome(run), expected)


@pytest.mark.slow
@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_run_stopped_in_the_test_split_trains_nothing_again(run_short, stop_in, monkeypatch, keep):
    settings = (f"evaluation.keep={keep}", "optimizer.learning_rate=0.02")
    _, run = run_short(*settings)
    expected = outcome(run)
    evaluated = []
    original = ScheduledTrainer.predict_split
    monkeypatch.setattr(
        ScheduledTrainer, "predict_split", lambda self, split: (evaluated.append(1), original(self, split))[1]
    )
    stop_in("prediction_step", lambda trainer: len(evaluated) == 5)  # four of validation, then the test split
    with pytest.raises(RunStopped, match="stopped after update 20"):
        run_short(*settings, repeat=True)
    monkeypatch.undo()
    steps = []
    original_step = ScheduledTrainer.training_step
    monkeypatch.setattr(
        ScheduledTrainer, "training_step", lambda self, *args: (steps.append(1), original_step(self, *args))[1]
    )
    run_short(*settings)
    assert not steps
    assert_equal_outcomes(outcome(run), expected)


@pytest.mark.slow
def test_never_begins_anew_what_was_interrupted(run_short, interrupted):
    run = interrupted()
    out = io.StringIO()
    run_short(out=out, resume="never")
    assert "after update" not in out.getvalue()
    assert rates(run) == pytest.approx([5e-3 * (1 - t / 20) for t in range(20)])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("keep", lambda t: 1 - t / 20),
        ("extend", lambda t: 1 - t / 20 if t < 12 else 1 - t / 24),
        ("restart", lambda t: 1 - t / 20 if t < 12 else 1 - (t - 12) / 12),
    ],
)
def test_a_run_goes_on_from_another_under_another_horizon(run_short, interrupted, policy, expected):
    other = interrupted()
    record, run = run_short("training.duration=24", resume=other, on_change=policy)
    count = 20 if policy == "keep" else 24
    assert rates(run) == pytest.approx([5e-3 * expected(t) for t in range(count)])
    assert record.continued.model_dump() == {
        "run": other.name,
        "step": 12,
        "on_change": policy,
        "changed": {"training.duration": (20, 24)},
    }
    assert (other / "checkpoints").is_dir()


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["keep", "branch"])
def test_a_run_that_went_on_from_another_goes_on_bit_for_bit(run_short, interrupted, stop_in, policy):
    other = interrupted()
    settings = ("training.duration=24", "optimizer.learning_rate=4e-3")
    _, run = run_short(*settings, resume=other, on_change=policy)
    expected = outcome(run)
    stop_in("training_step", lambda trainer: trainer.state.global_step == 15)
    with pytest.raises(RunStopped, match="after update 16"):
        run_short(*settings, resume=other, on_change=policy, repeat=True)
    record, _ = run_short(*settings, resume=other, on_change=policy)
    assert_equal_outcomes(outcome(run), expected)
    assert record.continued.step == 12


@pytest.mark.slow
def test_another_schedule_is_refused_with_the_differences(run_short, interrupted):
    other = interrupted()
    with pytest.raises(ResumeError) as caught:
        run_short("schedule=cosine", "training.duration=2ep", resume=other)
    message = str(caught.value)
    assert "schedule.name: linear, now cosine" in message
    assert "training.duration: 20, now 2ep" in message
    assert "Say how the new schedule takes over with --on-change" in message


@pytest.mark.slow
def test_what_can_not_change_on_the_way_is_refused_whatever_the_policy(run_short, interrupted):
    other = interrupted()
    with pytest.raises(
        ResumeError, match=r"training.batch_size: 16, now 8\nA run can't go on under another training.b"
    ):
        run_short("training.batch_size=8", resume=other, on_change="extend")


@pytest.mark.slow
def test_what_can_not_matter_may_change_on_the_way(run_short, interrupted):
    interrupted()
    out = io.StringIO()
    run_short("checkpoints.every=7", "checkpoints.keep=3", "tracking=[tensorboard]", out=out)
    assert "after update 12" in out.getvalue()


@pytest.mark.slow
def test_an_interrupted_run_under_another_schedule_is_told_of(run_short, interrupted):
    other = interrupted()
    out = io.StringIO()
    run_short("schedule=constant", out=out)
    text = out.getvalue()
    assert "interrupted, under another schedule" in text
    assert "schedule.name: linear, now constant" in text
    assert f"--resume {other} goes on from it" in text


@pytest.mark.slow
def test_a_run_with_a_checkpoint_of_its_own_is_not_overwritten(run_short, interrupted, stop_in):
    other = interrupted()
    stop_in("training_step", lambda trainer: trainer.state.global_step == 7)
    with pytest.raises(RunStopped):
        run_short("schedule=constant")
    with pytest.raises(ResumeError, match="holds an interrupted run of its own, after update 8"):
        run_short("schedule=constant", resume=other, on_change="extend")


@pytest.mark.slow
def test_the_model_must_be_the_one_that_the_run_was_begun_with(run_short, interrupted, tiny_model, tmp_path):
    own = tmp_path / "own_model"
    shutil.copytree(tiny_model, own)
    interrupted(f"model.path={own}")
    weights = load_file(own / "model.safetensors")
    name = next(iter(weights))
    weights[name] = weights[name] + 1
    save_file(weights, own / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RecordError, match="begun with other weights of the model, which changed since"):
        run_short(f"model.path={own}")


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("nowhere", "nowhere: holds no whole checkpoint; give the directory of a run that was interrupted"),
        ("checkpoint-7", "checkpoint-7: no whole checkpoint: it has no manifest.json"),
    ],
)
def test_there_must_be_something_to_go_on_from(run_short, tmp_path, place, message):
    with pytest.raises(ResumeError, match=message):
        run_short(resume=tmp_path / place)


@pytest.mark.slow
def test_a_run_that_ended_can_not_be_gone_on_with(run_short):
    _, run = run_short()
    with pytest.raises(ResumeError, match="a run that ended, and keeps no checkpoint"):
        run_short("schedule=constant", resume=run)


def test_an_unknown_policy_is_refused(run_short):
    with pytest.raises(SettingError, match="on-change: "):
        run_short(on_change="ignore")


@pytest.mark.slow
def test_a_pending_request_to_cool_down_outlives_an_interruption(run_short, interrupted):
    run = interrupted("training.duration=40")
    request_cooldown(run, duration="2", shape="linear", floor=0.0)
    record, _ = run_short("training.duration=40")
    assert record.schedule.total_steps == 22  # it looks every 10 updates
