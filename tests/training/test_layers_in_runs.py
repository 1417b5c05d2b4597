"""What a run makes of its layers: which parameters change in which update, and at which rate."""

import io

import pytest
import torch
from safetensors.torch import load_file

from finetune.errors import RunStopped, SettingError
from finetune.evaluation.record import read_history
from finetune.recipe import load_recipe
from finetune.schedules import make_schedule
from finetune.training.layer_preparation import prepare_layers
from finetune.training.material import Library
from finetune.training.rate_finder import _climbing
from finetune.training.trainer import ScheduledTrainer
from tests.faults import assert_equal_outcomes, outcome

QUICK = (
    "evaluation.every=null",
    "checkpoints.every=null",
    "evaluation.keep=last",
    "schedule={name: constant, warmup: 0}",
)
HEAD, POOLER = ["classifier."], ["bert.pooler."]
BLOCKS = [["bert.encoder.layer.0."], ["bert.encoder.layer.1."]]
EMBEDDINGS = ["bert.embeddings."]


def within(names, prefixes):
    return {name for name in names if name.startswith(tuple(prefixes))}


@pytest.fixture
def pretrained(small_recipe):
    """A function that returns the model of the small recipe with overrides, before anything is done to its layers."""
    return lambda *overrides: Library().model(load_recipe(small_recipe, overrides)).model


@pytest.fixture
def weights_before(monkeypatch):
    """The weights before each update that is made from here on."""
    seen, original = [], ScheduledTrainer.training_step

    def step(self, model, *args):
        seen.append({name: parameter.detach().clone() for name, parameter in self.model.named_parameters()})
        return original(self, model, *args)

    monkeypatch.setattr(ScheduledTrainer, "training_step", step)
    return seen


def changed(one, other):
    return {name for name, tensor in one.items() if not torch.equal(tensor, other[name])}


@pytest.mark.parametrize(
    ("freeze", "trained"),
    [
        ("embeddings", [*BLOCKS[0], *BLOCKS[1], *POOLER, *HEAD]),
        ("1", [*BLOCKS[1], *POOLER, *HEAD]),
        ("2", [*POOLER, *HEAD]),
        ("body", HEAD),
        ("['^bert.embeddings', 'bias$']", None),
    ],
)
def test_frozen_parameters_stay_bit_for_bit_and_take_no_memory(train, pretrained, monkeypatch, freeze, trained):
    before = dict(pretrained().named_parameters())
    trainers, create = [], ScheduledTrainer.create_optimizer
    monkeypatch.setattr(
        ScheduledTrainer, "create_optimizer", lambda self, *args: (trainers.append(self), create(self, *args))[1]
    )
    record, run = train(*QUICK, f"layers.freeze={freeze}", "optimizer.weight_decay=0.1")
    after = load_file(run / "model" / "model.safetensors")
    left = [name for name in before if not name.startswith("bert.embeddings") and not name.endswith("bias")]
    expected = set(left) if trained is None else within(before, trained)
    assert changed(before, after) == expected
    optimizer = trainers[0].optimizer
    held = {name for name, parameter in trainers[0].model.named_parameters() if parameter in optimizer.state}
    assert held == expected
    assert sum(group.parameters for group in record.schedule.groups) == sum(before[name].numel() for name in expected)


def test_each_layer_has_its_share_of_the_peak_at_every_update(train):
    record, _ = train(
        "evaluation.every=null", "checkpoints.every=null", "layers={head_rate: 4, rate_decay: 0.5, freeze: embeddings}"
    )
    factor = make_schedule("cosine", warmup="10%").resolve(total_steps=26)
    peaks = {"head": 2e-2, "1": 5e-3, "0": 2.5e-3}
    rates = {group.name: group.rates for group in record.schedule.groups}
    expected = {f"layers.{name}{end}": peak for name, peak in peaks.items() for end in ("", ".no_decay")}
    assert rates.keys() == expected.keys()
    for name, peak in expected.items():
        assert rates[name] == pytest.approx([peak * factor(t) for t in range(26)])


def test_own_groups_come_first_and_keep_their_rates(train):
    record, _ = train(
        *QUICK,
        "layers={head_rate: 4, rate_decay: 0.5, unfreeze: {every: 5}}",
        "groups={low: {parameters: 'layer.0|classifier', learning_rate: 1e-4}}",
    )
    rates = {group.name: group.rates for group in record.schedule.groups if not group.name.endswith("no_decay")}
    assert rates == {
        "low": [1e-4] * 26,
        "layers.1": [0.0] * 5 + [5e-3] * 21,
        "layers.embeddings": [0.0] * 15 + [1.25e-3] * 11,
    }


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_layers_change_from_the_update_on_that_unfreezes_them(train, weights_before, optimizer):
    record, run = train(
        *QUICK,
        "layers.unfreeze={every: 6}",
        f"optimizer={{name: {optimizer}, learning_rate: 1e-3, weight_decay: 0.1}}",
    )
    snapshots = [*weights_before, load_file(run / "model" / "model.safetensors")]
    order = [HEAD, [*BLOCKS[1], *POOLER], BLOCKS[0], EMBEDDINGS]
    for update in range(26):
        expected = within(snapshots[0], [prefix for prefixes in order[: update // 6 + 1] for prefix in prefixes])
        assert changed(snapshots[update], snapshots[update + 1]) == expected, update
    rates = {group.name: group.rates for group in record.schedule.groups}
    for start, name in ((0, "head"), (6, "1"), (12, "0"), (18, "embeddings")):
        assert rates[f"layers.{name}"] == [0.0] * start + [1e-3] * (26 - start)


def test_what_is_not_unfrozen_yet_has_no_part_in_the_norm_that_is_clipped(train):
    clipped = (*QUICK, "training.gradient_clipping=0.01")
    _, alone = train(*clipped, "layers.freeze=body")
    expected = [(row["loss"], row["gradient_norm"]) for row in read_history(alone) if "rates" in row]
    _, unfrozen = train(*clipped, "layers.unfreeze={every: 13}")
    found = [(row["loss"], row["gradient_norm"]) for row in read_history(unfrozen) if "rates" in row]
    assert min(norm for _, norm in expected) > 0.01
    assert found[:13] == expected[:13]
    assert all(one[1] > other[1] for one, other in zip(found[13:], expected[13:], strict=True))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_run_stopped_between_two_layers_goes_on_bit_for_bit(train, stop_in, optimizer):
    settings = (
        "layers={unfreeze: {every: 7}, rate_decay: 0.7, head_rate: 2}",
        f"optimizer={{name: {optimizer}, learning_rate: 1e-3}}",
        "checkpoints.every=3",
    )
    _, run = train(*settings)
    expected = outcome(run)
    stop_in("training_step", lambda trainer: trainer.state.global_step == 9)
    with pytest.raises(RunStopped, match="stopped after update 10"):
        train(*settings, repeat=True)
    record, _ = train(*settings)
    assert len(record.schedule.groups[0].rates) == 26
    assert_equal_outcomes(outcome(run), expected)


def test_a_skipped_update_unfreezes_nothing(train, monkeypatch):
    """The schedule waits, and so does what it unfreezes."""
    norm, step, trained = ScheduledTrainer._clip_grad_norm, ScheduledTrainer.training_step, []

    def watched(self, *args):
        trained.append(self.model.bert.pooler.dense.weight.requires_grad)
        return step(self, *args)

    def spoilt(self, model):
        found = norm(self, model)
        return found * float("nan") if self.state.global_step in (1, 2) else found

    monkeypatch.setattr(ScheduledTrainer, "training_step", watched)
    monkeypatch.setattr(ScheduledTrainer, "_clip_grad_norm", spoilt)
    _, run = train(*QUICK, "layers.unfreeze={every: 4}", "training.on_non_finite=skip")
    rows = [row for row in read_history(run) if "rates" in row]
    assert [row["step"] for row in rows if row.get("skipped")] == [2, 3]
    assert trained == [row["rates"]["layers.1"] > 0 for row in rows] == [False] * 6 + [True] * 20


@pytest.fixture
def reinitialised(pretrained, small_recipe):
    """A function that returns the weights of the small model, its top layers drawn anew, and which were."""

    def make(*overrides):
        model = pretrained(*overrides)
        names = prepare_layers(model, load_recipe(small_recipe, overrides))
        return {name: tensor.detach() for name, tensor in model.named_parameters()}, set(names)

    return make


def test_the_top_layers_start_at_random_as_the_model_draws_them(pretrained, reinitialised):
    before = dict(pretrained().named_parameters())
    after, names = reinitialised("layers.reinitialise=1")
    assert names == within(before, [*BLOCKS[1], *POOLER])
    # Biases and norms of a model that was never trained are at 0 and 1, where a new one has them.
    weights = {name for name in names if name.endswith("weight") and "LayerNorm" not in name}
    assert changed(before, after) == weights
    assert torch.cat([after[name].flatten() for name in weights]).std().item() == pytest.approx(0.02, rel=0.05)


def test_norms_and_biases_of_the_top_layers_are_reset(pretrained, small_recipe):
    model = pretrained()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7.0)
    prepare_layers(model, load_recipe(small_recipe, ["layers.reinitialise=1"]))
    left = {name for name, parameter in model.named_parameters() if 7.0 in parameter}
    assert left == within(dict(model.named_parameters()), [*EMBEDDINGS, *BLOCKS[0], *HEAD])
    top = model.bert.encoder.layer[1].output
    assert set(top.LayerNorm.weight.tolist()) == {1.0}
    assert set(top.dense.bias.tolist()) == {0.0}


def test_the_seed_draws_the_top_layers_and_nothing_else_feels_it(reinitialised):
    one, same, other = (reinitialised("layers.reinitialise=1", f"training.seed={seed}")[0] for seed in (0, 0, 1))
    assert changed(one, same) == set()
    drawn = "bert.encoder.layer.1.output.dense.weight"
    assert drawn in changed(one, other)
    plain, _ = reinitialised()
    state = torch.random.get_rng_state()
    assert torch.equal(plain["classifier.weight"], one["classifier.weight"])
    reinitialised("layers.reinitialise=1")
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_record_names_what_started_at_random(train):
    record, _ = train(*QUICK, "layers.reinitialise=1")
    plain, _ = train(*QUICK)
    assert "bert.encoder.layer.1.output.dense.weight" in record.identity.model.new_tensors
    assert plain.identity.model.new_tensors == ["classifier.bias", "classifier.weight"]
    assert record.identity.model.initial_weights != plain.identity.model.initial_weights


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("{freeze: ['encodr.layer.0']}", r'layers\.freeze: "encodr\.layer\.0" is in no name .* bert\.encoder\.layer'),
        ("{freeze: 3}", r"layers\.freeze: 3 is more than the model has blocks, which are 2"),
        ("{freeze: [bert, classifier]}", r"layers\.freeze: takes all parameters"),
        ("{freeze: ['layer.1'], reinitialise: 1}", r"layers\.reinitialise: would have bert\.encoder\.layer\.1\."),
        ("{freeze: [classifier], unfreeze: {every: 3}}", r"layers\.unfreeze: begins with the head, which freeze"),
    ],
)
def test_layers_that_the_model_has_not_are_refused_before_training(train, weights_before, layers, message):
    with pytest.raises(SettingError, match=message):
        train(f"layers={layers}")
    assert not weights_before


def test_the_search_for_a_rate_trains_all_layers_but_frozen_ones_at_one(small_recipe):
    layers = "layers={freeze: 1, reinitialise: 1, head_rate: 2, rate_decay: 0.5, unfreeze: {every: 3}}"
    recipe = load_recipe(small_recipe, [layers])
    climbing = _climbing(recipe, least=1e-5, most=1e-2, updates=10, seed=0)
    assert climbing.layers == load_recipe(small_recipe, ["layers={freeze: 1, reinitialise: 1}"]).layers


def test_the_plan_and_the_progress_show_the_rates_of_layers(train):
    out = io.StringIO()
    train("layers={head_rate: 4, rate_decay: 0.5, freeze: embeddings}", *QUICK, out=out)
    shown = " ".join(out.getvalue().split())
    assert "frozen embeddings" in shown
    assert "peak rates head 0.02, block 1 0.005, block 0 0.0025" in shown
    assert "rate 2.00e-02 head, 2.50e-03–5.00e-03 body" in shown
