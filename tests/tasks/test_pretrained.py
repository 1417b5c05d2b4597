"""Loading models: what a folder must hold, what a seed decides, and what is said where it fails."""

import dataclasses
import shutil

import pytest
import torch
from safetensors.torch import load_file

from finetune.errors import ModelError
from finetune.tasks.pretrained import Pretrained, Weights, _with_dropout, load_tokenizer
from tests.tasks.model_folders import CLASSES, TASK, configure, halve, local


def load(source, tokenizer, *, seed=0, classes=CLASSES):
    return TASK.load_model(source, classes=classes, processor=tokenizer, seed=seed)


def test_a_whole_folder_passes_the_check(source):
    source.check()


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (".", r"no such folder \(model\.path\); for a model on the Hub write model\.hub"),
        ("config.json", "holds no config.json"),
        ("model.safetensors", r"holds no weights: model\.safetensors or model\.safetensors\.index\.json is needed"),
    ],
)
def test_what_a_folder_lacks_is_said_before_anything_is_loaded(folder, missing, message):
    if missing == ".":
        shutil.rmtree(folder)
    else:
        (folder / missing).unlink()
    with pytest.raises(ModelError, match=message) as caught:
        local(folder).check()
    assert str(folder) in str(caught.value)


def test_pickled_weights_are_no_weights(folder):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickled weights aren't read"):
        local(folder).check()


def test_pickled_weights_are_not_loaded_even_unchecked(folder, tokenizer):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="the model can't be loaded"):
        load(local(folder), tokenizer)


def test_a_repository_is_not_checked_as_a_folder():
    Pretrained("nobody/nothing").check()


def test_the_encoder_is_the_pretrained_one(source, tokenizer, tiny_model):
    loaded = load(source, tokenizer)
    saved = load_file(tiny_model / "model.safetensors")
    assert loaded.new_tensors == ("classifier.bias", "classifier.weight")
    state = loaded.model.state_dict()
    assert saved
    assert all(torch.equal(state[f"bert.{name}"], tensor) for name, tensor in saved.items())


def test_the_head_has_one_output_for_each_class(source, tokenizer):
    loaded = load(source, tokenizer, classes=("a", "b", "c"))
    assert loaded.model.classifier.weight.shape == (3, 32)


def test_the_head_depends_on_the_seed_and_on_nothing_drawn_before(source, tokenizer):
    first = load(source, tokenizer, seed=1).model.classifier.weight
    torch.rand(17)
    same = load(source, tokenizer, seed=1).model.classifier.weight
    other = load(source, tokenizer, seed=2).model.classifier.weight
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_class_names_are_kept_in_the_config(source, tokenizer):
    config = load(source, tokenizer).model.config
    assert config.id2label == {0: "negative", 1: "positive"}
    assert config.label2id == {"negative": 0, "positive": 1}
    assert config.pad_token_id == tokenizer.pad_token_id


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_model_is_in_single_precision_whatever_was_saved(folder, tokenizer, dtype):
    from safetensors.torch import save_file

    weights = load_file(folder / "model.safetensors")
    halved = {name: tensor.to(dtype) for name, tensor in weights.items()}
    save_file(halved, folder / "model.safetensors", metadata={"format": "pt"})
    configure(folder, dtype=str(dtype).removeprefix("torch."))
    assert {tensor.dtype for tensor in load(local(folder), tokenizer).model.parameters()} == {torch.float32}


def test_a_head_for_other_classes_is_replaced(source, tokenizer, tmp_path):
    load(source, tokenizer, classes=("a", "b", "c")).model.save_pretrained(tmp_path)
    loaded = load(local(tmp_path), tokenizer)
    assert loaded.new_tensors == ("classifier.bias", "classifier.weight")
    assert loaded.model.classifier.weight.shape == (2, 32)


def test_a_head_that_fits_is_kept(source, tokenizer, tmp_path):
    first = load(source, tokenizer, seed=1)
    first.model.save_pretrained(tmp_path)
    again = load(local(tmp_path), tokenizer, seed=2)
    assert again.new_tensors == ()
    assert torch.equal(again.model.classifier.weight, first.model.classifier.weight)


def test_an_encoder_without_its_pooler_gets_a_new_one(folder, tokenizer):
    from safetensors.torch import save_file

    weights = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "pooler" not in name}
    assert len(kept) == len(weights) - 2
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    new = load(local(folder), tokenizer).new_tensors
    assert new == ("bert.pooler.dense.bias", "bert.pooler.dense.weight", "classifier.bias", "classifier.weight")


@pytest.mark.parametrize(
    ("settings", "tensors", "first"),
    [
        ({"num_hidden_layers": 3}, "16 of the 55", "bert.encoder.layer.2."),
        ({"vocab_size": 200}, "1 of the 39", "bert.embeddings.word_embeddings.weight"),
        ({"max_position_embeddings": 96}, "1 of the 39", "bert.embeddings.position_embeddings.weight"),
        # All but the two biases of the feed-forward layers' first halves, as wide as before, and the pooler's two.
        ({"hidden_size": 16}, "35 of the 39", "bert.embeddings.LayerNorm.bias"),
    ],
    ids=["a layer more", "more tokens", "more positions", "narrower"],
)
def test_an_encoder_that_would_start_at_random_in_part_is_refused(folder, tokenizer, settings, tensors, first):
    configure(folder, **settings)
    with pytest.raises(ModelError) as caught:
        load(local(folder), tokenizer)
    message = str(caught.value)
    assert message.startswith(f"{folder}: its weights lack {tensors} tensors of the encoder of Bert")
    assert f"the first is {first}" in message


def test_weights_of_another_model_are_refused(folder, tokenizer):
    from safetensors.torch import save_file

    save_file({"something.else": torch.zeros(3)}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="37 of the 39 tensors of the encoder"):
        load(local(folder), tokenizer)


@pytest.mark.parametrize("spoil", [halve, lambda path: path.write_bytes(b"")], ids=["cut off", "empty"])
def test_broken_weights_are_a_model_error(folder, tokenizer, spoil):
    spoil(folder / "model.safetensors")
    with pytest.raises(ModelError, match="the model can't be loaded: Error while deserializing header"):
        load(local(folder), tokenizer)


@pytest.mark.parametrize(
    "config", ["{", "{}", "[]", '{"model_type": "no such"}', '{"model_type": "bert", "hidden_size": "x"}']
)
def test_a_broken_config_is_a_model_error(folder, tokenizer, config):
    (folder / "config.json").write_text(config)
    with pytest.raises(ModelError, match="the model can't be loaded: "):
        load(local(folder), tokenizer)
    with pytest.raises(ModelError, match="the tokenizer can't be loaded: "):
        load_tokenizer(local(folder), max_length=32)


@pytest.mark.parametrize(
    "settings",
    [
        {"model_type": ["bert"]},
        {"hidden_size": "32"},
        {"hidden_size": -1},
        {"num_attention_heads": 0},
        {"hidden_act": "stranger.function"},
        {"quantization_config": {"quant_method": "stranger"}},
        {"max_position_embeddings": "many"},
        {"dtype": "stranger"},
    ],
    ids=str,
)
def test_a_config_that_is_wrong_is_refused_or_of_no_effect(folder, tokenizer, settings):
    configure(folder, **settings)
    try:
        loaded = load(local(folder), tokenizer)
    except ModelError:
        return
    assert loaded.model.config.hidden_size == 32


def test_a_model_out_of_reach_says_why(tokenizer):
    source = Pretrained("nobody/nothing")
    for what, attempt in [
        ("tokenizer", lambda: load_tokenizer(source, max_length=32)),
        ("model", lambda: load(source, tokenizer)),
    ]:
        with pytest.raises(
            ModelError, match=f"nobody/nothing: the {what} isn't in the local cache, and HF_HUB_OFFLINE=1"
        ):
            attempt()


def test_a_model_in_the_cache_needs_no_connection(run_offline):
    printed = run_offline(
        "from finetune.tasks import TextClassification\n"
        "from finetune.tasks.pretrained import Pretrained\n"
        "source, task = Pretrained('google-bert/bert-base-uncased'), TextClassification(max_length=128)\n"
        "tokenizer = task.load_processor(source)\n"
        "loaded = task.load_model(source, classes=['a', 'b'], processor=tokenizer, seed=0)\n"
        "print(len(tokenizer('a film')['input_ids']), loaded.new_tensors, loaded.commit)"
    )
    commit = "0123456789abcdef0123456789abcdef01234567"
    assert printed.splitlines()[-1] == f"4 ('classifier.bias', 'classifier.weight') {commit}"


def test_loading_prints_nothing_not_even_of_a_head_that_does_not_fit(source, tokenizer, tmp_path, run_offline):
    load(source, tokenizer, classes=("a", "b", "c")).model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    printed = run_offline(
        "import sys\n"
        "sys.stderr = sys.stdout\n"
        "from finetune.tasks import TextClassification\n"
        "from finetune.tasks.pretrained import Pretrained\n"
        f"source, task = Pretrained({str(tmp_path)!r}, local=True), TextClassification(max_length=32)\n"
        "tokenizer = task.load_processor(source)\n"
        "loaded = task.load_model(source, classes=['a', 'b'], processor=tokenizer, seed=0)\n"
        "print(loaded.new_tensors)"
    )
    assert printed == "('classifier.bias', 'classifier.weight')\n"


def test_loading_leaves_the_verbosity_of_transformers_as_it_was(source):
    from transformers.utils import logging

    before = (logging.get_verbosity(), logging.is_progress_bar_enabled())
    load_tokenizer(source, max_length=32)
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_a_model_made_of_weights_in_memory_is_the_one_that_is_read(source, tokenizer, seed):
    weights = Weights.of(load(source, tokenizer, seed=3))
    read = load(source, tokenizer, seed=seed)
    drawn = torch.rand(5)
    made = weights.load(seed=seed)
    assert torch.equal(torch.rand(5), drawn)
    assert (made.new_tensors, made.commit) == (read.new_tensors, read.commit)
    assert made.model.config.to_dict() == read.model.config.to_dict()
    assert made.model.training == read.model.training
    torch.testing.assert_close(dict(made.model.state_dict()), dict(read.model.state_dict()), rtol=0, atol=0)


def test_training_a_model_made_of_weights_in_memory_leaves_them_as_they_were(source, tokenizer):
    weights = Weights.of(load(source, tokenizer))
    before = {name: tensor.clone() for name, tensor in weights.tensors.items()}
    for parameter in weights.load(seed=0).model.parameters():
        parameter.data.add_(1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights.tensors.items())


def test_a_head_that_does_not_fit_is_drawn_anew_from_memory_too(source, tokenizer, tmp_path):
    load(source, tokenizer, classes=("a", "b", "c")).model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    made = Weights.of(load(local(tmp_path), tokenizer, seed=3)).load(seed=5)
    read = load(local(tmp_path), tokenizer, seed=5)
    torch.testing.assert_close(dict(made.model.state_dict()), dict(read.model.state_dict()), rtol=0, atol=0)


NAMES = {
    "bert": {"hidden_dropout_prob", "attention_probs_dropout_prob"},
    "distilbert": {"dropout", "attention_dropout", "qa_dropout", "seq_classif_dropout"},
    "gpt2": {"resid_pdrop", "embd_pdrop", "attn_pdrop", "summary_first_dropout"},
    "llama": {"attention_dropout"},
    "modernbert": {"attention_dropout", "embedding_dropout", "mlp_dropout", "classifier_dropout"},
    "bart": {"dropout", "attention_dropout", "activation_dropout", "classifier_dropout"},
    "t5": {"dropout_rate", "classifier_dropout"},
}


@pytest.mark.parametrize("kind", NAMES)
def test_every_dropout_of_a_config_is_set_under_the_name_it_has_there(kind):
    from transformers import AutoConfig

    config = AutoConfig.for_model(kind)
    assert _with_dropout(config, Pretrained("m", dropout=0.3)) == dict.fromkeys(NAMES[kind], 0.3)


def test_the_dropout_asked_for_is_that_of_every_layer_and_of_models_made_again(source, tokenizer):
    loaded = load(dataclasses.replace(source, dropout=0.25), tokenizer)
    for model in (loaded.model, Weights.of(loaded).load(seed=1).model):
        assert {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)} == {0.25}
        assert model.config.attention_probs_dropout_prob == 0.25


def test_a_model_without_dropout_is_refused_one():
    from transformers import ResNetConfig

    with pytest.raises(ModelError, match=r"m: regularisation.dropout is 0.1, and the config of resnet has no dropout"):
        _with_dropout(ResNetConfig(), Pretrained("m", dropout=0.1))
