"""Noise on embeddings: how much of it there is, on what, and that evaluations and runs that go on know nothing of it."""

import pytest
import torch
from transformers import AutoModelForSequenceClassification
from transformers.integrations.neftune import neftune_post_forward_hook

from finetune.errors import RunStopped
from finetune.training.noise import EmbeddingNoise, add_noise
from tests.faults import assert_equal_outcomes, outcome

NOISY = ("training.duration=20", "evaluation.every=8", "checkpoints.every=8")


@pytest.fixture
def tiny(steady_model):
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_pretrained(steady_model, num_labels=2)


@pytest.fixture
def embeddings():
    return torch.nn.Embedding(50, 16)


def test_without_padding_the_noise_is_that_of_transformers(embeddings):
    ids = torch.arange(24).view(2, 12)
    embeddings.neftune_noise_alpha = 5.0
    torch.manual_seed(1)
    expected = neftune_post_forward_hook(embeddings, (ids,), embeddings(ids))
    embeddings.register_forward_hook(EmbeddingNoise(5.0))
    torch.manual_seed(1)
    torch.testing.assert_close(embeddings(ids), expected)
    assert not torch.equal(embeddings(ids), expected)


def test_the_noise_of_an_example_depends_on_its_own_tokens_alone(embeddings):
    # α/√(L·d): 4/√(4·16) = 0.5 for four tokens, 4/√(1·16) = 1 for one, however far they are padded.
    noise = EmbeddingNoise(4.0)
    noise.mask = torch.zeros(2, 1000, dtype=torch.long)
    noise.mask[0, :4], noise.mask[1, :1] = 1, 1
    embeddings.register_forward_hook(noise)
    ids = torch.zeros(2, 1000, dtype=torch.long)
    added = embeddings(ids).detach() - embeddings.weight[0].detach()
    assert added[0].abs().max().item() == pytest.approx(0.5, rel=1e-3)
    assert added[1].abs().max().item() == pytest.approx(1.0, rel=1e-3)
    assert added.mean().item() == pytest.approx(0, abs=0.01)
    assert added[1].var().item() == pytest.approx(1 / 3, rel=0.05)  # of a uniform number from −1 to 1


def test_a_model_is_noisy_while_it_trains_and_never_else(tiny):
    batch = {"input_ids": torch.arange(5, 25).view(2, 10), "attention_mask": torch.ones(2, 10, dtype=torch.long)}
    batch["attention_mask"][1, 3:] = 0
    plain = tiny.eval()(**batch).logits
    add_noise(tiny, alpha=5.0)
    assert torch.equal(tiny(**batch).logits, plain)
    torch.manual_seed(0)
    noisy = tiny.train()(**batch).logits
    assert not torch.allclose(noisy, plain)
    torch.manual_seed(0)
    assert torch.equal(tiny(**batch).logits, noisy)


def test_padding_is_not_counted_among_the_tokens_of_an_example(tiny):
    # Of rows of 10 and of 3 tokens of 32 numbers, both 10 wide, noise reaches 4/√320 = 0.224 and 4/√96 = 0.408.
    batch = {"input_ids": torch.arange(5, 25).view(2, 10), "attention_mask": torch.ones(2, 10, dtype=torch.long)}
    batch["attention_mask"][1, 3:] = 0
    add_noise(tiny, alpha=4.0)
    seen = []
    tiny.get_input_embeddings().register_forward_hook(lambda module, inputs, embedded: seen.append(embedded.detach()))
    tiny.train()(**batch)
    added = (seen[0] - tiny.get_input_embeddings().weight[batch["input_ids"]].detach()).abs()
    assert added[0].max().item() == pytest.approx(4 / 320**0.5, rel=0.05)
    assert added[1].max().item() == pytest.approx(4 / 96**0.5, rel=0.05)


@pytest.mark.slow
def test_a_noisy_run_that_was_interrupted_goes_on_bit_for_bit(train, stop_in):
    settings = (*NOISY, "regularisation.neftune=5")
    _, run = train(*settings)
    expected = outcome(run)
    _, other = train(*NOISY)
    assert outcome(other)[2][0]["loss"] != expected[2][0]["loss"]
    stop_in("training_step", lambda trainer: trainer.state.global_step == 11)
    with pytest.raises(RunStopped):
        train(*settings, repeat=True)
    train(*settings)
    assert_equal_outcomes(outcome(run), expected)
