"""Averages of the weights: what they are the average of, what is evaluated of them, kept, and gone on with."""

import io
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from finetune.errors import RunStopped
from finetune.evaluation.record import MODEL, read_history
from finetune.evaluation.runs import read_run
from finetune.recipe.regularisation import Averaging, Ema
from finetune.training.averaging import Averages, ema_decay
from finetune.training.trainer import ScheduledTrainer
from tests.faults import assert_equal_outcomes, outcome

BOTH = ("averaging={ema: {decay: 0.9}, checkpoints: 3}", "training.duration=20", "evaluation.every=4")


def begun(settings, model, **options):
    averages = Averages(settings, **options)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    averages.on_train_begin(None, None, None, model=model, optimizer=optimizer)
    return averages


def update(averages, model, value):
    torch.nn.init.constant_(model.weight, value)
    averages.on_step_end(None, SimpleNamespace(global_step=1), None)


def held(averages, name, model):
    with averages.using(name):
        return model.weight.detach().clone()


@pytest.mark.parametrize(("warmup", "expected"), [(False, [0.5, 0.5, 0.5]), (True, [2 / 11, 3 / 12, 4 / 13])])
def test_the_average_follows_the_formula(warmup, expected):
    model = torch.nn.Linear(3, 2, bias=False)
    torch.nn.init.constant_(model.weight, 1.0)
    averages = begun(Averaging(ema=Ema(decay=0.5, warmup=warmup)), model)
    mean = 1.0
    for step, value in enumerate([2.0, -4.0, 8.0], start=1):
        update(averages, model, value)
        decay = ema_decay(0.5, updates=step, warmup=warmup)
        assert decay == pytest.approx(expected[step - 1])
        mean = decay * mean + (1 - decay) * value
        torch.testing.assert_close(held(averages, "ema", model), torch.full((2, 3), mean))
    assert torch.equal(model.weight, torch.full((2, 3), 8.0))
    assert not any(tensor.requires_grad for tensor in averages.state()["ema"].values())


def test_warmed_up_the_decay_is_the_one_asked_for():
    assert ema_decay(0.999, updates=100_000, warmup=True) == 0.999
    assert ema_decay(0.999, updates=91, warmup=True) == 92 / 101


def test_an_average_of_bf16_weights_is_in_fp32():
    model = torch.nn.Linear(1, 1, bias=False).bfloat16()
    torch.nn.init.constant_(model.weight, 1.0)
    averages = begun(Averaging(ema=Ema(decay=0.99, warmup=False)), model)
    for _ in range(3):
        update(averages, model, 2.0)
    # 2 − 0.99³, which bf16, whose steps between 1 and 2 are 1/128, can't hold.
    (mean,) = averages.state()["ema"].values()
    assert mean.dtype == torch.float32
    assert mean.item() == pytest.approx(2 - 0.99**3, rel=1e-6)


def test_an_update_that_is_skipped_leaves_the_average_as_it_is():
    model = torch.nn.Linear(1, 1, bias=False)
    averages = begun(Averaging(ema=Ema()), model, is_skipped=lambda: True)
    before = held(averages, "ema", model)
    update(averages, model, 100.0)
    assert torch.equal(held(averages, "ema", model), before)


def test_the_uniform_average_is_of_the_last_evaluations():
    model = torch.nn.Linear(2, 1, bias=False)
    averages = begun(Averaging(checkpoints=3), model)
    for value in (100.0, 1.0, 2.0, 6.0):
        torch.nn.init.constant_(model.weight, value)
        averages.note_evaluation()
    torch.testing.assert_close(held(averages, "average", model), torch.full((1, 2), 3.0))
    assert torch.equal(model.weight, torch.full((1, 2), 6.0))


def test_what_no_update_can_change_is_not_averaged_and_statistics_are():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 1))
    averages = Averages(Averaging(ema=Ema()))
    optimizer = torch.optim.SGD(model[2].parameters(), lr=0.1)
    averages.on_train_begin(None, None, None, model=model, optimizer=optimizer)
    assert averages.state()["ema"].keys() == {"1.running_mean", "1.running_var", "2.weight", "2.bias"}


@pytest.mark.slow
def test_averages_are_evaluated_beside_the_weights_and_change_nothing_in_them(train):
    plain, own = train(*BOTH[1:], "evaluation.keep=last")
    out = io.StringIO()
    record, run = train(*BOTH, "evaluation.keep=last", out=out)
    assert record.results.splits == plain.results.splits
    assert record.results.weights == "plain"
    strip = [{key: row[key] for key in row if key not in ("seconds", "beside")} for row in read_history(run)]
    assert strip == [{key: row[key] for key in row if key != "seconds"} for row in read_history(own)]
    ema, average = record.results.beside["ema"], record.results.beside["average"]
    rows = [row for row in read_history(run) if "evaluation" in row]
    assert rows[-1]["beside"] == {"ema": ema.last.validation}
    best = max(row["beside"]["ema"]["accuracy"] for row in rows)
    assert ema.best.validation["accuracy"] == best
    assert {*average.splits} == {*ema.splits} == {"validation", "test"}
    assert average.best == average.last
    assert "validation of ema weights: loss" in out.getvalue()
    assert "average validation accuracy" in " ".join(out.getvalue().split())
    assert read_run(run).record == record
    assert not {"beside", "weights"} & plain.results.model_dump().keys()


@pytest.mark.slow
@pytest.mark.parametrize("keep", ["last", "best"])
def test_the_kept_model_is_the_average_that_is_asked_for(train, monkeypatch, keep):
    moving, original = {}, Averages.note_evaluation

    def spy(self):
        moving[self._updates] = {name: tensor.clone() for name, tensor in self._ema.items()}
        original(self)

    monkeypatch.setattr(Averages, "note_evaluation", spy)
    record, run = train(*BOTH, "averaging.keep=ema", f"evaluation.keep={keep}", "optimizer.learning_rate=2e-2")
    assert record.results.weights == "ema"
    rows = {row["step"]: row for row in read_history(run) if "evaluation" in row}
    scores = {step: row["evaluation"]["accuracy"] for step, row in rows.items()}
    step = 20 if keep == "last" else next(step for step in scores if scores[step] == max(scores.values()))
    assert record.results.kept_step == step
    kept = load_file(run / MODEL / "model.safetensors")
    assert kept.keys() == moving[step].keys()
    assert all(torch.equal(kept[name], moving[step][name]) for name in kept)
    assert record.results.splits["validation"].metrics["accuracy"].value == scores[step]
    assert record.results.beside["plain"].last.validation == rows[20]["beside"]["plain"]
    assert read_run(run).record == record


@pytest.mark.slow
def test_the_kept_model_is_the_mean_of_the_last_evaluations(train, monkeypatch):
    passed, original = [], Averages.note_evaluation

    def spy(self):
        original(self)
        passed.append(self._window[-1])

    monkeypatch.setattr(Averages, "note_evaluation", spy)
    record, run = train(*BOTH, "averaging.keep=average")
    assert (record.results.weights, record.results.kept, record.results.kept_step) == ("average", "last", 20)
    kept = load_file(run / MODEL / "model.safetensors")
    for name, tensor in kept.items():
        expected = sum(each[name].double() for each in passed[-3:]) / 3
        torch.testing.assert_close(tensor.double(), expected, rtol=1e-5, atol=1e-7)
    assert record.results.best.validation["accuracy"] == record.results.splits["validation"].metrics["accuracy"].value
    assert {*record.results.beside} == {"plain", "ema"}
    assert read_run(run).record == record


@pytest.mark.slow
@pytest.mark.parametrize("keep", ["plain", "ema", "average"])
def test_averages_of_a_run_that_was_interrupted_go_on_bit_for_bit(train, stop_in, keep):
    settings = (*BOTH, f"averaging.keep={keep}", "optimizer.learning_rate=2e-2")
    _, run = train(*settings)
    expected = outcome(run)
    stop_in("training_step", lambda trainer: trainer.state.global_step == 13)
    with pytest.raises(RunStopped):
        train(*settings, repeat=True)
    train(*settings)
    assert_equal_outcomes(outcome(run), expected)


@pytest.mark.slow
def test_a_run_stopped_while_its_averages_are_evaluated_has_its_own_weights_again(train, stop_in, monkeypatch):
    settings = (*BOTH, "averaging.keep=ema")
    _, run = train(*settings)
    expected = outcome(run)
    evaluated, original = [], ScheduledTrainer.predict_split
    monkeypatch.setattr(
        ScheduledTrainer, "predict_split", lambda self, split: (evaluated.append(1), original(self, split))[1]
    )
    stop_in("prediction_step", lambda trainer: len(evaluated) == 6)  # the ema of the third of five evaluations
    with pytest.raises(RunStopped, match="after update 12"):
        train(*settings, repeat=True)
    evaluated.clear()
    stop_in("prediction_step", lambda trainer: len(evaluated) == 8)  # six, plain on the test split, and the average
    with pytest.raises(RunStopped, match="after update 20"):
        train(*settings)
    train(*settings)
    assert_equal_outcomes(outcome(run), expected)


@pytest.mark.slow
def test_averages_of_an_adapter_are_of_what_it_trains(train):
    pytest.importorskip("peft")
    record, run = train(*BOTH, "averaging.keep=ema", "adapter={rank: 2}", "regularisation.neftune=5")
    assert record.results.weights == "ema"
    assert {*record.results.beside} == {"plain", "average"}
    kept = load_file(run / MODEL / "model.safetensors")
    assert not any("lora" in name for name in kept)  # merged, as the average that it is
