"""What a run does where a loss isn't finite, memory runs out, or a process that it needs is gone."""

import io
import math

import pytest
import torch

from finetune.errors import RunError, RunStopped
from finetune.evaluation.record import read_history
from finetune.tasks import TextClassification
from finetune.training.history import MOST_SKIPPED
from finetune.training.recording import weights_fingerprint
from finetune.training.trainer import ScheduledTrainer
from tests.faults import assert_equal_outcomes, outcome

BRIEF = ("training.duration=8", "schedule={name: linear, warmup: 0}", "evaluation.every=null", "checkpoints.every=3")


@pytest.fixture
def alter_loss(monkeypatch):
    """A function that puts `change(loss, logits)` in place of the loss of some updates, counted from 1."""

    def arm(change, updates):
        original, made = TextClassification.training_loss, []

        def training_loss(self, outputs, labels, num_items_in_batch=None):
            made.append(True)
            loss = original(self, outputs, labels, num_items_in_batch)
            return change(loss, outputs.logits) if len(made) in updates else loss

        monkeypatch.setattr(TextClassification, "training_loss", training_loss)

    return arm


def no_number(loss, logits):
    return loss * math.nan


def infinite_but_constant(loss, logits):
    return loss + math.inf


def steep(loss, logits):
    return loss + (logits.sum() * 0).sqrt()  # a number, whose derivative is none


def updates(run):
    return [row for row in read_history(run) if "rates" in row]


@pytest.mark.parametrize(
    ("change", "losses", "gradients"), [(no_number, 1, 1), (infinite_but_constant, 1, 0), (steep, 0, 1)]
)
def test_a_run_stops_at_a_loss_or_a_gradient_that_is_no_number(train, alter_loss, change, losses, gradients):
    alter_loss(change, {3})
    record, _ = train(*BRIEF)
    assert (record.status, record.diverged_at_step, record.results) == ("diverged", 3, None)
    assert record.non_finite.losses >= losses
    assert record.non_finite.gradients >= gradients
    assert record.non_finite.skipped == 0


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "rmsprop"])
def test_skip_leaves_the_update_out_and_the_schedule_where_it_is(train, alter_loss, monkeypatch, optimizer):
    alter_loss(no_number, {3})
    weights, original = [], ScheduledTrainer.take_update
    monkeypatch.setattr(
        ScheduledTrainer,
        "take_update",
        lambda self: (weights.append(weights_fingerprint(self.model)), original(self))[1],
    )
    record, run = train(*BRIEF, "training.on_non_finite=skip", f"optimizer={optimizer}")
    assert record.status == "finished"
    assert record.non_finite.model_dump() == {"losses": 1, "gradients": 1, "skipped": 1}
    assert [row.get("skipped", False) for row in updates(run)] == [number == 3 for number in range(1, 9)]
    assert weights[1] == weights[2]
    assert len(set(weights)) == 7
    peak = record.schedule.groups[0].peak
    factors = [row["rates"]["decay"] / peak for row in updates(run)]
    assert factors == pytest.approx([1 - t / 8 for t in (0, 1, 2, 2, 3, 4, 5, 6)])


def test_a_run_that_only_skips_has_diverged(train, alter_loss):
    alter_loss(no_number, set(range(5, 100)))
    settings = [each for each in BRIEF if "duration" not in each]
    record, run = train(*settings, "training.duration=60", "training.on_non_finite=skip")
    assert (record.status, record.diverged_at_step) == ("diverged", 5)
    assert MOST_SKIPPED <= record.non_finite.skipped < MOST_SKIPPED + 10
    assert len(updates(run)) < 60


def test_continue_goes_on_and_counts(train, alter_loss):
    alter_loss(infinite_but_constant, {3})
    record, run = train(*BRIEF, "training.on_non_finite=continue")
    assert record.status == "finished"
    assert record.non_finite.model_dump() == {"losses": 1, "gradients": 0, "skipped": 0}
    assert [row["loss"] is None for row in updates(run)] == [number == 3 for number in range(1, 9)]


def test_continue_ends_as_diverged_where_the_last_loss_is_no_number_either(train, alter_loss):
    alter_loss(no_number, {3})  # and by its gradients so are all after it
    record, run = train(*BRIEF, "training.on_non_finite=continue")
    assert (record.status, record.diverged_at_step) == ("diverged", 3)
    assert len(updates(run)) == 8


@pytest.mark.slow
def test_a_run_with_a_skipped_update_goes_on_bit_for_bit(train, alter_loss, stop_in):
    settings = (*BRIEF, "training.on_non_finite=skip")
    alter_loss(no_number, {3})
    _, run = train(*settings)
    expected = outcome(run)
    alter_loss(no_number, {3})
    stop_in("training_step", lambda trainer: trainer.state.global_step == 4)
    with pytest.raises(RunStopped):
        train(*settings, repeat=True)
    record, _ = train(*settings)
    assert_equal_outcomes(outcome(run), expected)
    assert record.non_finite.skipped == 1


@pytest.fixture
def memory_for(monkeypatch):
    """A function that has memory run out from now on where more than so many examples are trained on at once."""
    original, limits = TextClassification.training_loss, []

    def training_loss(self, outputs, labels, num_items_in_batch=None):
        if torch.is_grad_enabled() and limits and len(labels) > limits[-1]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return original(self, outputs, labels, num_items_in_batch)

    monkeypatch.setattr(TextClassification, "training_loss", training_loss)
    return limits.append


def test_memory_that_runs_out_names_the_batch_and_what_helps(train, memory_for):
    memory_for(10)
    with pytest.raises(RunError) as caught:
        train(*BRIEF)
    message = str(caught.value)
    assert "out of memory on cpu, in update 1, by a micro-batch of 16 examples of 16 tokens, padding" in message
    assert "set training.micro_batch_size to 8, which leaves the batch of an update as it is" in message


@pytest.mark.parametrize(("most", "accumulation"), [(10, 2), (4, 4), (1, 16)])
def test_halved_micro_batches_leave_the_batch_of_an_update_as_it_is(
    train, memory_for, steady_model, most, accumulation
):
    settings = (*BRIEF, f"model.path={steady_model}", "training.on_out_of_memory=halve")
    _, run = train(*settings)
    expected = updates(run)
    memory_for(most)
    out = io.StringIO()
    record, run = train(*settings, repeat=True, out=out)
    assert record.environment.accumulation == accumulation
    assert "out of memory on cpu, in update 1: micro-batches of 8 from here on" in out.getvalue()
    for row, other in zip(updates(run), expected, strict=True):
        assert row["rates"] == other["rates"]
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert row["gradient_norm"] == pytest.approx(other["gradient_norm"], rel=1e-3)


def test_memory_that_runs_out_in_a_later_micro_batch_has_the_update_made_anew(train, memory_for, steady_model):
    settings = (*BRIEF, f"model.path={steady_model}", "training.on_out_of_memory=halve")
    _, run = train(*settings)
    expected = updates(run)
    original, made = ScheduledTrainer.training_step, []

    def training_step(self, *args, **kwargs):
        made.append(True)
        if len(made) == 4:  # the second micro-batch of the second update
            memory_for(4)
        return original(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScheduledTrainer, "training_step", training_step)
        record, run = train(*settings, "training.micro_batch_size=8", repeat=True)
    assert record.environment.accumulation == 4
    assert [row["loss"] for row in updates(run)] == pytest.approx([row["loss"] for row in expected], rel=1e-4)


def test_one_example_that_is_too_large_says_so(train, memory_for):
    memory_for(0)
    with pytest.raises(
        RunError, match=r"a micro-batch of 1 example of .*even one example is too large; lower task.max"
    ):
        train(*BRIEF, "training.on_out_of_memory=halve")


@pytest.mark.slow
def test_a_run_with_halved_micro_batches_goes_on_bit_for_bit(train, memory_for, stop_in):
    settings = (*BRIEF, "training.on_out_of_memory=halve")
    memory_for(10)
    _, run = train(*settings)
    expected = outcome(run)
    stop_in("training_step", lambda trainer: trainer.state.global_step == 4)
    with pytest.raises(RunStopped):
        train(*settings, repeat=True)
    train(*settings)
    assert_equal_outcomes(outcome(run), expected)


def test_memory_that_runs_out_in_an_evaluation_names_its_batch(train, monkeypatch):
    def prediction_step(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(ScheduledTrainer, "prediction_step", prediction_step)
    with pytest.raises(RunError, match=r"in an evaluation of 32 examples at a time: set evaluation.batch_size to 16"):
        train(*BRIEF)
