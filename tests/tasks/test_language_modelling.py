"""Losses and scores of tokens against torch's own, however the logits are cut, and what they come to."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from finetune.metrics import load_metric
from finetune.tasks import MaskedLanguageModelling, token_losses
from finetune.training.losses import ClassLoss

TASK = MaskedLanguageModelling()
N, TOKENS, VOCABULARY = 3, 10, 7


@pytest.fixture(params=[1, VOCABULARY * 4, 10**6], ids=["a token at a time", "four at a time", "all at once"])
def cells(request, monkeypatch):
    monkeypatch.setattr(token_losses, "CELLS", request.param)


@pytest.fixture
def logits():
    return torch.randn(N, TOKENS, VOCABULARY, generator=torch.Generator().manual_seed(0), requires_grad=True)


@pytest.fixture
def labels():
    drawn = torch.randint(VOCABULARY, (N, TOKENS), generator=torch.Generator().manual_seed(1))
    drawn[0, :5] = drawn[2] = -100
    return drawn


def test_the_training_loss_and_its_gradient_are_those_of_torch(cells, logits, labels):
    loss = TASK.training_loss(SimpleNamespace(logits=logits), labels, torch.tensor(40))
    (gradient,) = torch.autograd.grad(loss, logits)
    expected = cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / 40
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert torch.allclose(gradient, torch.autograd.grad(expected, logits)[0], atol=1e-7)


def test_the_loss_is_in_fp32_whatever_the_logits_are(cells, logits, labels):
    halved = logits.detach().bfloat16()
    loss = TASK.training_loss(SimpleNamespace(logits=halved), labels)
    expected = cross_entropy(halved.float().flatten(0, 1), labels.flatten())
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("count", [None, 0, torch.tensor(0)])
def test_a_batch_of_which_no_token_counts_has_no_loss_and_no_gradient(logits, count):
    loss = TASK.training_loss(SimpleNamespace(logits=logits), torch.full((N, TOKENS), -100), count)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == 0
    assert not gradient.any()


def test_each_sequence_scores_the_sums_over_its_own_tokens(cells, logits, labels):
    found = TASK.kept_outputs(SimpleNamespace(logits=logits.detach()), labels)
    each = cross_entropy(logits.detach().permute(0, 2, 1), labels, reduction="none")
    right = (logits.argmax(dim=-1) == labels).sum(dim=1)
    assert torch.allclose(found["nll"], each.sum(dim=1))
    assert found["right"].tolist() == right.tolist()
    assert found["counted"].tolist() == [5, 10, 0]


OUTPUTS = {"nll": np.array([2.0, 4.0, 0.0], np.float32), "right": np.array([1, 3, 0]), "counted": np.array([2, 4, 0])}


def test_each_token_counts_once_whichever_sequence_it_is_in():
    judgement = TASK.judge(OUTPUTS, None, ())
    assert judgement.loss == 1
    assert load_metric("perplexity").value(judgement.answers) == pytest.approx(math.e)
    assert load_metric("token_accuracy").value(judgement.answers) == pytest.approx(4 / 6)


def test_the_loss_of_no_tokens_is_not_a_number():
    assert math.isnan(TASK.judge({name: values[2:] for name, values in OUTPUTS.items()}, None, ()).loss)


def test_a_row_of_predictions_has_the_sums_of_a_sequence():
    split = SimpleNamespace(lengths=np.array([8, 9, 1]))
    found = TASK.label_columns(split, ()) | TASK.prediction_columns(OUTPUTS, split, ())
    assert {name: list(values) for name, values in found.items()} == {
        "length": [8, 9, 1],
        "tokens": [2, 4, 0],
        "tokens_right": [1, 3, 0],
        "negative_log_likelihood": [2, 4, 0],
    }


def test_labels_of_tokens_can_be_smoothed(logits, labels):
    smoothed = ClassLoss(TASK, smoothing=0.1)(SimpleNamespace(logits=logits), labels, torch.tensor(40))
    counted = labels != -100
    expected = cross_entropy(logits[counted], labels[counted], label_smoothing=0.1, reduction="sum") / 40
    assert smoothed.item() == pytest.approx(expected.item(), rel=1e-6)
