"""Adapters: what is trained of a model, what is saved of it, and what the saved model computes."""

import importlib.metadata
import json

import numpy as np
import pytest
import torch
from pyarrow import parquet
from safetensors.torch import load_file, save_file

from finetune.errors import ModelError, RecipeError, RecordError, RunStopped, SettingError
from finetune.evaluation.record import MODEL, PREDICTIONS, read_history
from finetune.recipe import load_recipe
from finetune.tasks.model_folder import check_location
from finetune.training import run_directory
from finetune.training.adapters import check_adapter, merged_state
from finetune.training.checkpoints import CHECKPOINTS
from finetune.training.material import Library
from finetune.training.recording import weights_fingerprint
from finetune.training.trainer import ScheduledTrainer
from finetune.training.weights import load_weights, save_model
from tests.faults import assert_equal_outcomes, outcome

pytest.importorskip("peft", reason="adapters need the extra finetune-schedules[adapters]")

LORA = "adapter={rank: 4, alpha: 8}"
KINDS = {
    "lora": "{rank: 4, alpha: 8, dropout: 0.1}",
    "rslora": "{rank: 4, rslora: true}",
    "dora": "{rank: 4, dora: true}",
    "all": "{rank: 4, targets: all-linear, rslora: true, dora: true}",
}
QUICK = ("evaluation.every=null", "checkpoints.every=null")
FAST = "optimizer.learning_rate=0.02"
HEAD = 32 * 2 + 2


@pytest.fixture
def load(small_recipe):
    """A function that loads the small recipe with overrides."""
    return lambda *overrides: load_recipe(small_recipe, overrides)


@pytest.fixture
def trainers(monkeypatch):
    """A list of the trainers that runs are made with, in order."""
    made, original = [], ScheduledTrainer.__init__

    def keep(self, *args, **kwargs):
        made.append(self)
        original(self, *args, **kwargs)

    monkeypatch.setattr(ScheduledTrainer, "__init__", keep)
    return made


def trained(model):
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize(
    ("adapter", "expected"),
    [
        # query and value, 32 × 32, of 2 layers; rank × (inputs + outputs) each.
        ("{rank: 4}", 4 * 4 * (32 + 32)),
        ("{rank: 3, targets: [query]}", 2 * 3 * (32 + 32)),
        ("{rank: 3, targets: layer.0.attention.self.query}", 3 * (32 + 32)),
        # With DoRA a length for each output.
        ("{rank: 4, dora: true}", 4 * (4 * (32 + 32) + 32)),
        # Query, key, value and output, the two of 32 × 64, and not the pooler of the tiny model's body, which is one.
        ("{rank: 2, targets: all-linear}", 2 * (4 * 2 * (32 + 32) + 2 * 2 * (32 + 64)) + 2 * (32 + 32)),
    ],
)
def test_the_adapter_and_the_head_alone_are_trained(load, adapter, expected):
    model = Library().model(load(f"adapter={adapter}")).model
    assert sum(parameter.numel() for parameter in trained(model).values()) == expected + HEAD
    assert {name for name in trained(model) if ".lora_" not in name} == {"classifier.weight", "classifier.bias"}


def test_an_adapter_begins_as_the_model_it_is_put_into(load):
    inputs = {"input_ids": torch.tensor([[2, 5, 6, 3]])}
    for adapter in KINDS.values():
        logits = [Library().model(load(*each)).model.eval()(**inputs).logits for each in ((), [f"adapter={adapter}"])]
        torch.testing.assert_close(*logits, rtol=0, atol=1e-6)


def test_the_seed_draws_the_adapter_alone(load):
    def fingerprint(library, seed):
        return weights_fingerprint(library.model(load(LORA, f"training.seed={seed}")).model)

    kept = Library(keep_weights=True)
    fingerprint(kept, 5)
    assert fingerprint(Library(), 0) == fingerprint(Library(), 0) == fingerprint(kept, 0)
    assert fingerprint(Library(), 0) != fingerprint(Library(), 1)
    one, other = (trained(Library().model(load(LORA, f"training.seed={seed}")).model) for seed in (0, 1))
    assert all(not torch.equal(one[name], other[name]) for name in one if "lora_A" in name)
    plain, adapted = (Library().model(load(*each)).model.classifier.weight for each in ((), [LORA]))
    assert torch.equal(plain, adapted)


def test_a_library_keeps_the_model_without_the_adapter(load):
    library = Library(keep_weights=True)
    assert trained(library.model(load(LORA)).model)
    assert len(trained(library.model(load()).model)) == len(list(library.model(load()).model.parameters()))
    assert any("lora_A" in name for name in trained(library.model(load("adapter={rank: 2}")).model))


@pytest.mark.slow
def test_training_moves_the_adapter_and_the_head_and_nothing_else(train, load, trainers):
    adapter = "adapter={rank: 8, alpha: 64, targets: all-linear}"
    record, run = train(adapter, *QUICK, "training.duration=6ep", "optimizer.learning_rate=0.01")
    before, model = Library().model(load(adapter)).model.state_dict(), trainers[0].model
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == set(trained(model))
    assert all(parameter.grad is None for parameter in model.parameters() if not parameter.requires_grad)
    losses = [row["loss"] for row in read_history(run) if "loss" in row]
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.05
    assert record.identity.model.trained_parameters == sum(map(torch.Tensor.numel, trained(model).values()))
    assert record.environment.versions["peft"] == importlib.metadata.version("peft")


def recorded(run, split="test"):
    """Returns the probabilities of the positive class in a run's predictions."""
    return parquet.read_table(run / PREDICTIONS / f"{split}.parquet")["probability_positive"].to_numpy()


def probabilities(model, run):
    """Returns those that transformers' own pipeline computes for the test split with a model."""
    from transformers import AutoTokenizer, pipeline

    texts = parquet.read_table(run.parents[2] / "test.parquet")["sentence"].to_pylist()
    tokenizer = AutoTokenizer.from_pretrained(run / MODEL)
    classify = pipeline("text-classification", model=model, tokenizer=tokenizer, top_k=None)
    found = [{each["label"]: each["score"] for each in scores} for scores in classify(texts)]
    return np.array([scores.get("positive", scores.get("LABEL_1")) for scores in found])


@pytest.mark.slow
@pytest.mark.parametrize("adapter", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_merged_model_is_an_ordinary_one_with_the_recorded_predictions(train, adapter, keep):
    _, run = train(f"adapter={adapter}", "evaluation.every=4", FAST, f"evaluation.keep={keep}")
    assert not any("lora" in name or "base_layer" in name for name in load_file(run / MODEL / "model.safetensors"))
    assert not (run / MODEL / "adapter_config.json").exists()
    np.testing.assert_allclose(probabilities(str(run / MODEL), run), recorded(run), rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # PEFT's own use of it
@pytest.mark.parametrize("adapter", KINDS.values(), ids=KINDS)
def test_the_model_that_is_not_merged_is_read_by_peft(train, adapter, tiny_model):
    from peft import AutoPeftModelForSequenceClassification

    _, run = train(f"adapter={adapter[:-1]}, merge: false}}", *QUICK, FAST)
    names = {path.name for path in (run / MODEL).iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= names
    assert "model.safetensors" not in names
    assert json.loads((run / MODEL / "adapter_config.json").read_text())["base_model_name_or_path"] == str(tiny_model)
    model = AutoPeftModelForSequenceClassification.from_pretrained(run / MODEL)
    np.testing.assert_allclose(probabilities(model, run), recorded(run), rtol=0, atol=1e-5)
    np.testing.assert_allclose(probabilities(model.merge_and_unload(), run), recorded(run), rtol=0, atol=1e-5)
    if "dora" not in adapter:  # transformers 5.23 reads PEFT's files without the lengths of DoRA
        np.testing.assert_allclose(probabilities(str(run / MODEL), run), recorded(run), rtol=0, atol=1e-5)


def test_layers_that_hold_their_weights_transposed_are_merged_too():
    from transformers import GPT2Config, GPT2ForSequenceClassification

    from finetune.recipe.adapter import Adapter
    from finetune.tasks.pretrained import LoadedModel
    from finetune.training.adapters import add_adapter

    config = GPT2Config(vocab_size=20, n_embd=16, n_layer=1, n_head=2, n_positions=16, pad_token_id=0)
    model = GPT2ForSequenceClassification(config).eval()
    add_adapter(
        LoadedModel(model, ("score.weight",), None), Adapter(rank=4, targets=("all-linear",), dora=True), seed=0
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(generator=torch.Generator().manual_seed(0))
    inputs = {"input_ids": torch.tensor([[3, 4, 5]])}
    expected = model(**inputs).logits
    ordinary = GPT2ForSequenceClassification(config).eval()
    ordinary.load_state_dict(merged_state(model, model.state_dict()))
    torch.testing.assert_close(ordinary(**inputs).logits, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_checkpoints_hold_the_adapter_and_the_head(train, stop_in, small_recipe):
    stop_in("training_step", lambda trainer: trainer.state.global_step == 11)
    with pytest.raises(RunStopped):
        train(LORA, "evaluation.every=5")
    (path,) = small_recipe.parent.glob(f"runs/*/*/{CHECKPOINTS}/checkpoint-12")
    names = {file.name for file in path.iterdir()}
    assert "adapter_model.safetensors" in names
    assert not {name for name in names if name.startswith("model") or name.endswith((".bin", ".pt", ".pkl"))}
    assert sum(tensor.numel() for tensor in load_file(path / "adapter_model.safetensors").values()) == 4 * 4 * 64 + HEAD
    # The states of Adam: two moments for each number, and a step for each tensor, 4 × 2 + 2.
    numbers = [
        tensor.numel() for tensor in load_file(path / "training.safetensors").values() if tensor.is_floating_point()
    ]
    assert sum(numbers) == 2 * (4 * 4 * 64 + HEAD) + 10


def test_weights_that_do_not_fit_are_refused(train, trainers, tmp_path):
    train(LORA, *QUICK, "training.duration=1")
    folder = tmp_path / "kept" / "model"
    folder.parent.mkdir()
    save_model(trainers[0], folder)
    load_weights(trainers[0], folder)
    tensors = load_file(folder / "adapter_model.safetensors")
    name = next(name for name in tensors if "lora_A" in name)
    for altered in (
        {key: tensor for key, tensor in tensors.items() if key != name},
        {**tensors, f"{name}.more": torch.zeros(1)},
        {**tensors, name: tensors[name][:1].clone()},
    ):
        save_file(altered, folder / "adapter_model.safetensors")
        with pytest.raises(RecordError, match="its weights don't fit the model that was trained"):
            load_weights(trainers[0], folder)


@pytest.mark.slow
@pytest.mark.parametrize("adapter", ["{rank: 4, dropout: 0.2}", "{rank: 4, dora: true, b_rate: 16}"])
def test_a_run_that_was_stopped_goes_on_bit_for_bit(train, stop_in, adapter):
    settings = (f"adapter={adapter}", "evaluation.every=5", "checkpoints.every=5")
    _, run = train(*settings)
    expected = outcome(run)
    stop_in("training_step", lambda trainer: trainer.state.global_step == 11)
    with pytest.raises(RunStopped):
        train(*settings, repeat=True)
    train(*settings)
    assert_equal_outcomes(outcome(run), expected)


@pytest.mark.slow
def test_b_has_its_own_peak(train):
    record, _ = train(
        "adapter={rank: 4, b_rate: 16}", "groups={low: {parameters: layer.0, learning_rate: 1e-3}}", *QUICK, FAST
    )
    groups = {group.name: group for group in record.schedule.groups}
    assert {name: group.peak for name, group in groups.items()} == pytest.approx(
        {"low": 1e-3, "low.lora_B": 16e-3, "decay": 0.02, "no_decay": 0.02, "decay.lora_B": 0.32}
    )
    assert groups["decay.lora_B"].parameters == 2 * 4 * 32  # B is (32, 4), of query and value in one layer
    assert groups["decay.lora_B"].rates == pytest.approx([16 * rate for rate in groups["decay"].rates])


def test_lengths_of_dora_do_not_decay(load, train):
    record, _ = train("adapter={rank: 4, dora: true}", "training.duration=1", *QUICK)
    sizes = {group.name: group.parameters for group in record.schedule.groups}
    assert sizes == {"decay": 4 * 4 * 64 + 64, "no_decay": 4 * 32 + 2}


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        ("{targets: qeury}", r"adapter\.targets: qeury is in no name .*did you mean query\?\); there are query, key, "),
        ("{targets: [query, classifier]}", r"adapter\.targets: classifier is in no name"),
        ("{targets: LayerNorm}", r"adapter\.targets: LayerNorm is in no name of a linear layer"),
        ("{rank: 33}", r"adapter\.rank: 33 is more than bert\.encoder.*query can have, .* 32 inputs and 32 outputs"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_before_training(train, adapter, message):
    with pytest.raises(SettingError, match=message):
        train(f"adapter={adapter}")


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        ("{rank: 0}", "adapter.rank"),
        ("{alpha: 0}", "adapter.alpha"),
        ("{alpha: -1}", "adapter.alpha"),
        ("{dropout: 1}", "adapter.dropout"),
        ("{b_rate: 0}", "adapter.b_rate"),
        ("{targets: []}", "adapter.targets"),
        ("{rnak: 8}", r"adapter.rnak: unknown key \(did you mean rank\?\)"),
        ("ia3", "adapter.name"),
    ],
)
def test_a_faulty_adapter_is_refused_at_load(load, adapter, message):
    with pytest.raises(RecipeError, match=message):
        load(f"adapter={adapter}")


def test_an_adapter_has_short_forms(load):
    assert load("adapter=lora").adapter == load("adapter={}").adapter == load("adapter.rank=8").adapter
    assert load("adapter={targets: query}").adapter.targets == ("query",)


def test_a_recipe_without_one_is_what_it_was(load, small_recipe):
    assert "adapter" not in load().to_dict()
    assert load("adapter=null") == load()
    assert run_directory(load(LORA), source=small_recipe) != run_directory(load(), source=small_recipe)
    assert load(LORA).to_dict()["adapter"]["rank"] == 4


def test_without_peft_the_extra_is_named(load, monkeypatch):
    monkeypatch.setattr("finetune.training.adapters.find_spec", lambda _: None)
    with pytest.raises(
        SettingError, match=r"adapter: peft isn't installed: pip install 'finetune-schedules\[adapters\]'"
    ):
        check_adapter(load(LORA).adapter)
    check_adapter(None)


def test_an_adapter_is_no_model_to_start_from(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"is an adapter .*, not a model: merge it into its base first"):
        check_location(str(tmp_path), local=True)
