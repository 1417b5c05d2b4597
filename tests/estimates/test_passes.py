"""What an update holds in memory: counted by hand for small networks, and beside what torch's profiler sees."""

from functools import partial
from itertools import accumulate

import pytest
import torch

from finetune.errors import ModelError
from finetune.estimates.allocations import Allocations, size_of
from finetune.estimates.kernels import Kernels
from finetune.estimates.passes import Setting, measure
from finetune.optimizers import OPTIMIZERS
from finetune.tasks.classification import Classification

WIDTH, EXAMPLES = 128, 64
MATRIX = WIDTH * WIDTH * 4  # bytes of a square matrix in fp32, a multiple of 512
VALUES = EXAMPLES * WIDTH * 4  # bytes of what a layer gives for all examples
SPECS = [
    ({"name": "adamw"}, 2),
    ({"name": "adam"}, 2),
    ({"name": "sgd", "momentum": 0.9}, 1),
    ({"name": "sgd", "momentum": 0.0}, 0),
    ({"name": "rmsprop"}, 1),
    ({"name": "rmsprop", "momentum": 0.9, "centered": True}, 3),
    ({"name": "adagrad"}, 1),
]


class Outputs(dict):
    """As models return them."""

    logits = property(lambda self: self["logits"])


class Network(torch.nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.layers = torch.nn.Sequential(*layers)

    def forward(self, x):
        return Outputs(logits=self.layers(x))


def linear():
    return torch.nn.Linear(WIDTH, WIDTH, bias=False, device="meta")


def optimizer(name, **settings):
    return OPTIMIZERS[name](learning_rate=0.1, **settings)


def setting(precision="fp32", device="cuda", **more):
    return Setting(
        batch={"x": torch.zeros(1, WIDTH), "labels": torch.zeros(1, dtype=torch.int64)},
        padded=True,
        loss=lambda outputs, labels, count: outputs.logits.float().sum() / count,
        keep=lambda outputs, labels: {"logits": outputs.logits},
        optimizer=more.pop("optimizer", optimizer(name="adamw")),
        precision=precision,
        device=device,
        **more,
    )


@pytest.mark.parametrize(("spec", "states"), SPECS, ids=str)
def test_an_optimizer_keeps_as_many_numbers_for_each_weight_as_it_does(spec, states):
    usage = measure(Network(linear(), linear()), setting(optimizer=optimizer(**spec)), examples=1)
    assert usage.weights == usage.gradients == 2 * MATRIX
    # Those of single numbers, such as the count of updates, may be there too.
    assert usage.states == pytest.approx(states * 2 * MATRIX, abs=2048)


def test_adafactor_keeps_a_row_and_a_column_of_each_matrix():
    usage = measure(Network(linear(), linear()), setting(optimizer=optimizer(name="adafactor")), examples=1)
    assert usage.states == pytest.approx(2 * 2 * WIDTH * 4, abs=2048)


def test_the_backward_pass_needs_what_goes_into_each_layer():
    usage = measure(Network(linear(), torch.nn.ReLU(), linear()), setting(), examples=EXAMPLES)
    # The batch, what each of the first two gives, and the last, whose gradient the sum makes of one number.
    assert usage.activations == pytest.approx(4 * VALUES, abs=4 * 512 + VALUES)
    larger = measure(Network(linear(), torch.nn.ReLU(), linear()), setting(), examples=2 * EXAMPLES)
    assert larger.activations == pytest.approx(2 * usage.activations, rel=0.02)


def test_what_is_frozen_has_neither_gradient_nor_state():
    network = Network(linear(), linear())
    network.layers[0].weight.requires_grad_(False)
    usage = measure(network, setting(), examples=EXAMPLES)
    assert (usage.parameters, usage.trained) == (2 * WIDTH**2, WIDTH**2)
    assert (usage.gradients, usage.states) == (MATRIX, pytest.approx(2 * MATRIX, abs=2048))


def test_half_precision_copies_each_weight_once():
    shared = linear()
    usage = measure(Network(shared, torch.nn.ReLU(), shared), setting("bf16"), examples=EXAMPLES)
    assert usage.copies == MATRIX // 2
    assert measure(Network(shared), setting(), examples=EXAMPLES).copies == 0


def test_micro_batches_have_the_gradients_of_those_before_beside_them():
    network, plain = Network(linear(), torch.nn.ReLU(), linear()), setting()
    once = measure(network, plain, examples=EXAMPLES)
    again = measure(network, plain, examples=EXAMPLES, accumulated=True)
    assert sum(again.at_peak.values()) > sum(once.at_peak.values())
    assert again.at_peak["gradients"] == 2 * MATRIX


def test_an_average_is_as_much_as_the_weights_that_it_is_of():
    usage = measure(Network(linear()), setting(averaged=True, restored=True), examples=1)
    assert usage.averages == usage.aside == MATRIX


def test_a_gpu_updates_in_one_go_by_rmsprop_with_as_many_numbers_beside_the_weights():
    network, by_rmsprop = Network(linear(), linear()), optimizer(name="rmsprop")
    assert measure(network, setting(optimizer=by_rmsprop), examples=1).stepping >= 2 * MATRIX
    assert measure(network, setting(), examples=1).stepping == 0


def test_an_evaluation_holds_what_two_neighbours_give():
    usage = measure(Network(linear(), linear(), linear()), setting(), examples=1, evaluated=EXAMPLES)
    assert usage.evaluating == pytest.approx(3 * VALUES, abs=VALUES)


def test_a_model_that_looks_at_its_values_is_refused_in_words():
    class Looking(Network):
        def forward(self, x):
            return Outputs(logits=self.layers(x[x > 0.5]))

    with pytest.raises(ModelError, match="Looking: its memory can't be estimated"):
        measure(Looking(linear()), setting(), examples=1)


def allocated_by(function, device="cuda"):
    """Returns the greatest number of bytes that `function` holds, by the rules of a device."""
    allocations = Allocations([])
    with allocations, Kernels(device, half=None, padded=True, note_copy=lambda copy: None):
        kept = function()
    del kept
    return int(allocations.live().max())


def test_a_gpu_attends_without_keeping_scores():
    def attend(tokens, dropout=0.0):
        query = torch.empty(1, 2, tokens, 64, device="meta", requires_grad=True)
        return torch.nn.functional.scaled_dot_product_attention(query, query, query, dropout_p=dropout)

    # Four times the tokens: scores would take 16 times the memory.
    assert allocated_by(lambda: attend(1024)) < 5 * allocated_by(lambda: attend(256))
    dropped, longer = (allocated_by(partial(attend, tokens, 0.1), "cpu") for tokens in (256, 1024))
    assert longer > 10 * dropped


def test_a_gpu_keeps_a_byte_for_each_value_that_may_be_dropped():
    def drop():
        values = torch.empty(1024, 1024, device="meta", requires_grad=True)
        return values, torch.nn.functional.dropout(values, 0.1)

    assert allocated_by(drop) == (4 + 4 + 1) * 2**20


def test_what_is_freed_no_longer_counts():
    allocations = Allocations([])
    with allocations:
        one = torch.empty(1024, device="meta")
        other = one + 1
        del one
        view = other[:10]
        del other
        assert allocations.live()[-1] == 4096  # the view holds it
        del view
        torch.empty(0, device="meta")
    assert (allocations.live().max(), allocations.live()[-1]) == (2 * 4096, 0)


def test_storage_shared_by_tensors_counts_once():
    whole = torch.empty(1000, device="meta")
    assert size_of([whole, whole[:5], torch.empty(3)]) == 4096


@pytest.mark.slow
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_what_a_cpu_holds_is_what_is_estimated(dropout):
    from torch.profiler import ProfilerActivity, profile
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=500,
        hidden_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=512,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    ids = torch.ones(16, 48, dtype=torch.int64)
    batch = {"input_ids": ids, "attention_mask": ids, "labels": ids[:, 0]}
    batch["attention_mask"] = ids.tril()
    loss = Classification.training_loss
    with torch.device("meta"):
        made = BertForSequenceClassification(config)
    expected = measure(
        made,
        Setting(
            batch={name: tensor[:1] for name, tensor in batch.items()},
            padded=True,
            loss=lambda outputs, labels, count: loss(None, outputs, labels, count),
            keep=lambda outputs, labels: outputs.logits,
            optimizer=optimizer(name="adamw"),
            precision="fp32",
            device="cpu",
        ),
        examples=16,
    )
    model = BertForSequenceClassification(config)
    stepping = optimizer(name="adamw").build([{"params": list(model.parameters())}])
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        for _ in range(2):
            loss(None, model(**inputs), batch["labels"], 16).backward()
            stepping.step()
            stepping.zero_grad()
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    peak = max(accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())))
    kept_before = expected.weights + sum(tensor.nbytes for tensor in batch.values())
    assert max(expected.phases.values()) == pytest.approx(peak + kept_before, rel=0.05)
