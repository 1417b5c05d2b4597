"""Metrics of language modelling, by arithmetic and torch's cross-entropy."""

import math

import numpy as np
import pytest
import torch

from finetune.metrics import load_metric
from finetune.metrics.answers import Answers


def of_tokens(likelihoods, right, tokens):
    return Answers("tokens", np.array([likelihoods, right], dtype=float).T, np.array(tokens))


def test_every_token_counts_once():
    answers = of_tokens([2 * math.log(4), 6 * math.log(2)], [1, 3], [2, 6])
    assert load_metric("perplexity").value(answers) == pytest.approx(2 ** (10 / 8))
    assert load_metric("token_accuracy").value(answers) == pytest.approx(4 / 8)


def test_perplexity_is_e_to_the_cross_entropy():
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 5, 7, dtype=torch.float64), torch.randint(7, (3, 5))
    labels[1, 2:] = -100
    each = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
    right = (logits.argmax(-1) == labels).sum(1)
    answers = of_tokens(each.sum(1).tolist(), right.tolist(), (labels >= 0).sum(1).tolist())
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).exp()
    assert load_metric("perplexity").value(answers) == pytest.approx(expected.item())


@pytest.mark.parametrize("name", ["perplexity", "token_accuracy"])
def test_of_no_tokens_nothing_is_known(name):
    answers = of_tokens([0, 0], [0, 0], [0, 0])
    assert math.isnan(load_metric(name).value(answers))
    assert math.isnan(load_metric(name).standard_error(answers))


@pytest.mark.parametrize(("likelihood", "expected"), [(1e6, math.inf), (math.nan, math.nan)])
def test_a_model_gone_astray_raises_no_warning(likelihood, expected):
    answers = of_tokens([likelihood, 1], [0, 0], [1, 1])
    assert load_metric("perplexity").value(answers) == pytest.approx(expected, nan_ok=True)


def test_the_standard_error_is_the_delta_methods():
    # One token per example: the perplexity varies e^mean times as the mean does, whose error is σ/√n.
    likelihoods = np.random.default_rng(0).exponential(size=3000)
    answers = of_tokens(likelihoods, np.zeros(3000), np.ones(3000, int))
    expected = math.exp(likelihoods.mean()) * likelihoods.std() / math.sqrt(3000)
    assert load_metric("perplexity").standard_error(answers) == pytest.approx(expected, rel=0.2)
