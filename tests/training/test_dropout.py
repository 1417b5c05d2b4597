"""Dropout drawn many masks at a time: what it drops, what it leaves, and runs that use it."""

import json

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from finetune.errors import DeviceError, RunStopped
from finetune.recipe import load_recipe
from finetune.training.dropout import FastDropout, dropped, use_fast_dropout
from finetune.training.execution import check_execution
from finetune.training.layout import Layout
from tests.faults import assert_equal_outcomes, outcome

EVERY_SHAPE = [(7,), (3, 5), (2, 3, 5, 7)]
FAST = ("training.fast_dropout=true", "evaluation.every=8", "checkpoints.every=8")


@pytest.fixture
def tiny(tiny_model):
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_pretrained(tiny_model, num_labels=2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_drops_the_share_asked_for_and_keeps_the_mean(dtype, probability):
    torch.manual_seed(0)
    values = torch.ones(1 << 20, dtype=dtype)
    made = dropped(values, probability)
    share = (made == 0).double().mean().item()
    error = (probability * (1 - probability) / len(values)) ** 0.5
    assert share == pytest.approx(probability, abs=5 * error + 2**-16)
    assert made.double().mean().item() == pytest.approx(1.0, abs=5 * error / (1 - probability) + 0.004)
    assert len(made.unique()) == 2
    assert torch.equal(values, torch.ones_like(values))


def test_draws_are_independent_of_their_neighbours():
    torch.manual_seed(0)
    zero = (dropped(torch.ones(1 << 20), 0.5) == 0).double() - 0.5
    for distance in (1, 2, 3, 4, 5, 64):
        assert abs((zero[:-distance] * zero[distance:]).mean().item()) < 5 * 0.25 / 2**10


@pytest.mark.parametrize("shape", EVERY_SHAPE)
def test_every_shape_and_layout_is_dropped_alike_by_one_seed(shape):
    values = torch.randn(*shape)
    made = []
    for layout in (values, values.transpose(0, -1).contiguous().transpose(0, -1)):
        torch.manual_seed(1)
        made.append(dropped(layout, 0.5))
    assert torch.equal(*made)
    assert made[0].shape == shape


def test_gradients_pass_where_values_did():
    torch.manual_seed(0)
    values = torch.randn(1000, dtype=torch.float64, requires_grad=True)
    made = dropped(values, 0.25)
    made.sum().backward()
    scale = 32768 / (32768 - 8192)
    assert torch.equal(values.grad, (made != 0).double() * scale)
    assert torch.equal(made, values.detach() * values.grad)


def test_what_is_no_number_is_dropped_too():
    torch.manual_seed(0)
    made = dropped(torch.full((1000,), torch.nan), 0.5)
    assert 400 < (made == 0).sum() < 600


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_none_and_all_are_as_in_torch(probability):
    values = torch.randn(10)
    assert torch.equal(FastDropout(probability)(values), torch.nn.Dropout(probability)(values))


def test_an_evaluation_drops_nothing(tiny):
    tiny.eval()
    inputs = {"input_ids": torch.randint(5, 60, (3, 9)), "attention_mask": torch.ones(3, 9, dtype=torch.long)}
    inputs["attention_mask"][0, 5:] = 0
    before = tiny(**inputs).logits
    use_fast_dropout(tiny)
    torch.testing.assert_close(tiny(**inputs).logits, before)


def test_training_without_dropout_gives_the_gradients_of_the_model(tiny):
    inputs = {"input_ids": torch.randint(5, 60, (3, 9)), "attention_mask": torch.ones(3, 9, dtype=torch.long)}
    inputs["attention_mask"][0, 5:] = 0
    for module in tiny.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    tiny.config.attention_probs_dropout_prob = 0.0
    gradients = []
    for prepare in (lambda _: None, use_fast_dropout):
        prepare(tiny)
        tiny.train().zero_grad()
        tiny(**inputs).logits.square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in tiny.parameters() if parameter.grad is not None])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_what_is_saved_is_the_plain_model(tiny, tmp_path):
    use_fast_dropout(tiny)
    assert any(isinstance(module, FastDropout) for module in tiny.modules())
    tiny.save_pretrained(tmp_path)
    assert "fast_dropout" not in json.dumps(json.loads((tmp_path / "config.json").read_text()))
    assert type(AutoModelForSequenceClassification.from_pretrained(tmp_path).dropout) is torch.nn.Dropout


@pytest.mark.slow
def test_a_run_is_another_learns_and_goes_on_exactly(train, stop_in):
    plain, _ = train("evaluation.every=8", "checkpoints.every=8")
    record, run = train(*FAST, "name=whole")
    assert record.results.last.validation["accuracy"] > 0.8
    assert record.results != plain.results
    stop_in("training_step", lambda trainer: trainer.state.global_step == 11)
    with pytest.raises(RunStopped):
        train(*FAST, "name=parts")
    _, parts = train(*FAST, "name=parts")
    assert_equal_outcomes(outcome(run), outcome(parts))


def test_a_gpu_needs_it_not(small_recipe):
    recipe = load_recipe(small_recipe, ["training.fast_dropout=true"])
    with pytest.raises(DeviceError, match="fast_dropout: is for CPUs, and this run is on cuda: leave it out"):
        check_execution(recipe, Layout(1, 0, torch.device("cuda", 0), 1, 16))
