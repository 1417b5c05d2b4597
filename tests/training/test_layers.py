"""Where the parameters of models are, by their names, and the groups and rates that come of it."""

import pytest
import torch
from transformers import (
    AlbertConfig,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    BartConfig,
    BertConfig,
    DistilBertConfig,
    GPT2Config,
    LlamaConfig,
    MPNetConfig,
    RobertaConfig,
    T5Config,
    ViTConfig,
)

from finetune.errors import SettingError
from finetune.recipe import load_recipe
from finetune.schedules import Run
from finetune.training.layer_preparation import anatomy_of_model
from finetune.training.layers import (
    Anatomy,
    anatomy_of,
    block_of,
    check_blocks,
    count_blocks,
    frozen_names,
    group_of_each,
    in_words,
    layer_groups,
    reinitialised_names,
)

SIZES = {"hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 20}
SEQ2SEQ = {"d_model": 8, "vocab_size": 20, "eos_token_id": 2, "pad_token_id": 1}
DISTIL = {"dim": 8, "n_layers": 3, "n_heads": 2, "hidden_dim": 8, "vocab_size": 20}
BART = {f"{part}_{what}": n for part in ("encoder", "decoder") for what, n in (("layers", 2), ("attention_heads", 2))}

# Each architecture, its blocks, and the place of a parameter of each kind: 0 for embeddings, i + 1 for block i, then
# what is above the blocks, then the head.
ARCHITECTURES = {
    "bert": (
        BertConfig(**SIZES),
        3,
        {
            "bert.embeddings.word_embeddings.weight": 0,
            "bert.embeddings.LayerNorm.bias": 0,
            "bert.encoder.layer.0.attention.self.query.weight": 1,
            "bert.encoder.layer.2.output.LayerNorm.weight": 3,
            "bert.pooler.dense.weight": 4,
            "classifier.weight": 5,
        },
    ),
    "distilbert": (
        DistilBertConfig(**DISTIL),
        3,
        {
            "distilbert.embeddings.word_embeddings.weight": 0,
            "distilbert.transformer.layer.1.ffn.lin1.weight": 2,
            "pre_classifier.weight": 5,
            "classifier.bias": 5,
        },
    ),
    "roberta": (
        RobertaConfig(**SIZES),
        3,
        {
            "roberta.embeddings.position_embeddings.weight": 0,
            "roberta.encoder.layer.2.output.dense.weight": 3,
            "classifier.dense.weight": 5,
            "classifier.out_proj.bias": 5,
        },
    ),
    "gpt2": (
        GPT2Config(n_embd=8, n_layer=3, n_head=2, vocab_size=20),
        3,
        {
            "transformer.wte.weight": 0,
            "transformer.wpe.weight": 0,
            "transformer.h.0.attn.c_attn.weight": 1,
            "transformer.h.2.mlp.c_proj.bias": 3,
            "transformer.ln_f.weight": 4,
            "score.weight": 5,
        },
    ),
    "llama": (
        LlamaConfig(**SIZES, num_key_value_heads=2),
        3,
        {
            "model.embed_tokens.weight": 0,
            "model.layers.1.self_attn.q_proj.weight": 2,
            "model.norm.weight": 4,
            "score.weight": 5,
        },
    ),
    "mpnet": (
        MPNetConfig(**SIZES),
        3,
        # The bias comes after the blocks, and all of them use it.
        {"mpnet.encoder.relative_attention_bias.weight": 0, "mpnet.encoder.layer.2.output.dense.weight": 3},
    ),
    "t5": (
        T5Config(**SEQ2SEQ, d_kv=4, d_ff=8, num_layers=2, num_decoder_layers=3, num_heads=2),
        5,
        {
            "transformer.shared.weight": 0,
            "transformer.encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight": 1,
            "transformer.encoder.block.1.layer.1.layer_norm.weight": 2,
            "transformer.encoder.final_layer_norm.weight": 2,
            "transformer.decoder.block.0.layer.2.layer_norm.weight": 3,
            "transformer.decoder.block.2.layer.0.layer_norm.weight": 5,
            "transformer.decoder.final_layer_norm.weight": 6,
            "classification_head.dense.weight": 7,
        },
    ),
    "bart": (
        BartConfig(**SEQ2SEQ, **BART, encoder_ffn_dim=8, decoder_ffn_dim=8),
        4,
        {
            "model.decoder.embed_positions.weight": 0,
            "model.encoder.layers.1.fc1.weight": 2,
            "model.decoder.layers.0.fc1.weight": 3,
            "model.decoder.layernorm_embedding.bias": 0,
            "classification_head.dense.weight": 6,
        },
    ),
    "albert": (AlbertConfig(**SIZES, embedding_size=4), 0, {"albert.pooler.weight": 0, "classifier.weight": 2}),
}


def meta(config):
    with torch.device("meta"):
        return AutoModelForSequenceClassification.from_config(config)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_parameters_are_where_their_names_say(name):
    config, blocks, places = ARCHITECTURES[name]
    model = meta(config)
    anatomy = anatomy_of_model(model)
    assert anatomy.blocks == blocks
    assert {key: anatomy.places[key] for key in places} == places
    assert [*anatomy.places] == [key for key, _ in model.named_parameters()]
    assert all(not key.startswith(f"{model.base_model_prefix}.") for key in anatomy.head)


def test_a_vision_model_has_layers_too():
    sizes = {key: value for key, value in SIZES.items() if key != "vocab_size"}
    with torch.device("meta"):
        model = AutoModelForImageClassification.from_config(ViTConfig(**sizes, image_size=8, patch_size=4))
    anatomy = anatomy_of_model(model)
    assert anatomy.blocks == 3
    assert anatomy.places["vit.embeddings.cls_token"] == 0
    assert anatomy.places["vit.layernorm.weight"] == 4
    assert anatomy.head == ("classifier.weight", "classifier.bias")
    assert {place for key, place in anatomy.places.items() if ".layers." in key} == {1, 2, 3}


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("encoder.layer.3.output.weight", "encoder.layer.3"),
        ("h.11.ln_1.bias", "h.11"),
        ("vit.blocks.0.norm.weight", "vit.blocks.0"),
        ("decoder.block.2.layer.0.weight", "decoder.block.2"),
        ("player.3.weight", None),
        ("layer.weight", None),
        ("layers.3", None),
        ("conv_layers.0.weight", None),
        ("fetch.3.weight", None),
    ],
)
def test_a_block_is_what_has_a_number(name, block):
    assert block_of(name) == block


def test_blocks_are_counted_whatever_the_order_of_the_names():
    assert count_blocks([f"layers.{n}.w" for n in (10, 0, 2, 0, 1)] + ["embed.w", "layer_norm.w"]) == 4


def test_a_model_without_the_prefix_is_all_body():
    anatomy = anatomy_of(["embed.w", "layer.0.w", "pooler.w"], body="bert")
    assert (anatomy.head, anatomy.places) == ((), {"embed.w": 0, "layer.0.w": 1, "pooler.w": 2})


NAMES = ["b.embed.w", "b.layer.0.w", "b.layer.1.w", "b.layer.2.w", "b.pooler.w", "head.w"]
ANATOMY = anatomy_of(NAMES, body="b")
RUN = Run(total_steps=100, updates_per_epoch=50)


@pytest.fixture
def load(small_recipe):
    """A function that loads the small recipe, whose peak is 5e-3, with layers."""
    return lambda layers, *overrides: load_recipe(small_recipe, [f"layers={layers}", *overrides])


@pytest.mark.parametrize(
    ("freeze", "left"),
    [
        ("embeddings", NAMES[1:]),
        ("1", NAMES[2:]),
        ("3", NAMES[4:]),
        ("body", NAMES[5:]),
        (r"['layer\.[02]', ^head]", ["b.embed.w", "b.layer.1.w", "b.pooler.w"]),
    ],
)
def test_what_is_frozen(load, freeze, left):
    frozen = frozen_names(load(f"{{freeze: {freeze}}}").layers, ANATOMY)
    assert [name for name in NAMES if name not in frozen] == left


@pytest.mark.parametrize(("top", "names"), [(1, NAMES[3:5]), (3, NAMES[1:5])])
def test_what_starts_at_random(load, top, names):
    assert reinitialised_names(load(f"{{reinitialise: {top}}}").layers, ANATOMY) == set(names)


def peaks(groups):
    return {group.label: group.peak for group in groups}


def test_rates_decay_from_block_to_block(load):
    groups = layer_groups(load("{head_rate: 10, rate_decay: 0.5}"), RUN, blocks=3)
    assert peaks(groups) == pytest.approx(
        {"head": 5e-2, "block 2": 5e-3, "block 1": 2.5e-3, "block 0": 1.25e-3, "embeddings": 6.25e-4}
    )
    each = group_of_each(groups, ANATOMY)
    labels = ["embeddings", "block 0", "block 1", "block 2", "block 2", "head"]
    assert {name: group.label for name, group in each.items()} == dict(zip(NAMES, labels, strict=True))
    assert list(dict.fromkeys(group.label for group in each.values())) == [*peaks(groups)]


def test_the_head_alone_is_a_group_where_nothing_goes_by_depth(load):
    groups = layer_groups(load("{head_rate: 10}"), RUN, blocks=3)
    assert peaks(groups) == pytest.approx({"head": 5e-2})
    assert group_of_each(groups, ANATOMY) == {"head.w": groups[0]}


def test_layers_that_only_freeze_have_no_groups(load):
    assert layer_groups(load("{freeze: 1, reinitialise: 1}"), RUN, blocks=3) == []


@pytest.mark.parametrize("every", ["10", "10%", "0.2ep"])
def test_layers_are_unfrozen_from_the_top_down(load, every):
    groups = layer_groups(load(f"{{unfreeze: {{every: {every}}}}}"), RUN, blocks=3)
    assert [(group.label, group.start) for group in groups] == [
        ("head", 0),
        ("block 2", 10),
        ("block 1", 20),
        ("block 0", 30),
        ("embeddings", 40),
    ]


def test_what_is_frozen_by_depth_has_no_group(load):
    by_depth = "rate_decay: 0.5, unfreeze: {every: 10}"
    labels = [each.label for each in layer_groups(load(f"{{freeze: 2, {by_depth}}}"), RUN, blocks=3)]
    assert labels == ["head", "block 2"]
    # The pooler is trained with the top block, and without it where that is frozen.
    above = layer_groups(load(f"{{freeze: 3, {by_depth}}}"), RUN, blocks=3)
    assert [(each.label, each.start) for each in above] == [("head", 0), ("block 2", 10)]


@pytest.mark.parametrize(
    ("layers", "blocks", "message"),
    [
        ("{freeze: 4}", 3, r"layers\.freeze: 4 is more than the model has blocks, which are 3"),
        ("{reinitialise: 4}", 3, r"layers\.reinitialise: 4 is more than the model has blocks, which are 3"),
        ("{freeze: 2, reinitialise: 2}", 3, r"layers\.reinitialise: 2 of the model's 3 blocks from the top are not"),
        ("{freeze: embeddings}", 0, r"layers\.freeze: goes by numbered blocks, such as layer\.0"),
        ("{rate_decay: 0.9}", 0, r"layers\.rate_decay: goes by numbered blocks"),
        ("{unfreeze: {every: 1}}", 0, r"layers\.unfreeze: goes by numbered blocks"),
        ("{reinitialise: 1}", 0, r"layers\.reinitialise: goes by numbered blocks"),
    ],
)
def test_layers_that_do_not_fit_the_blocks_are_refused(load, layers, blocks, message):
    with pytest.raises(SettingError, match=message):
        check_blocks(load(layers).layers, blocks)


@pytest.mark.parametrize("layers", ["{freeze: body}", "{freeze: ['x']}", "{head_rate: 2}"])
def test_a_model_without_numbered_blocks_can_be_frozen_by_name(load, layers):
    check_blocks(load(layers).layers, 0)


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        ("['layr.1']", r'layers\.freeze: "layr\.1" is in no name of a parameter, such as b\.layer\.'),
        ("['layer.0', '^bert$']", r'layers\.freeze: "\^bert\$" is in no name'),
        ("['.']", r"layers\.freeze: takes all parameters, and leaves none of the 6 to train"),
    ],
)
def test_patterns_that_fit_nothing_or_all_are_refused(load, freeze, message):
    with pytest.raises(SettingError, match=message):
        frozen_names(load(f"{{freeze: {freeze}}}").layers, ANATOMY)


BODY = Anatomy({"embed.w": 0, "layer.0.w": 1}, 1)


def test_a_model_that_is_all_body_has_no_head_to_train(load):
    with pytest.raises(SettingError, match=r"layers\.freeze: body takes all of a model that has no head"):
        frozen_names(load("{freeze: body}").layers, BODY)
    with pytest.raises(SettingError, match=r"layers: head_rate, rate_decay and unfreeze need a head"):
        group_of_each(layer_groups(load("{head_rate: 2}"), RUN, blocks=1), BODY)


def test_a_floor_above_a_low_peak_is_refused(load):
    layers = "{rate_decay: 0.1}"
    with pytest.raises(SettingError, match=r"for the peak 5e-05 of block 0, schedule\.floor_rate: 0\.0001 is above"):
        layer_groups(load(layers, "schedule.floor_rate=1e-4"), RUN, blocks=3)
    assert layer_groups(load(layers, "schedule.floor_rate=5e-6"), RUN, blocks=3)


def test_layers_in_words(load):
    recipe = load("{freeze: 1, rate_decay: 0.5, head_rate: 2, unfreeze: {every: 40}, reinitialise: 1}")
    assert dict(in_words(recipe, RUN, blocks=3)) == {
        "frozen": "embeddings and the lowest 1 of 3 blocks",
        "random": "the top 1 of 3 blocks, and what the body has above them",
        "peak rates": "head 0.01, block 2 0.005, block 1 0.0025",
        "unfrozen": "the head first, block 2 after update 40, block 1 after update 80",
    }
    never = dict(in_words(load("{unfreeze: {every: 50}}"), RUN, blocks=3))["unfrozen"]
    assert never.endswith("block 2 after update 50; not before the run ends: block 1, block 0, embeddings")


def test_layers_in_words_before_the_model_is_known(load):
    recipe = load("{freeze: 2, rate_decay: 0.5, unfreeze: {every: 40}}")
    assert dict(in_words(recipe, RUN, blocks=None)) == {
        "frozen": "embeddings and the lowest 2 blocks",
        "peak rates": "head 0.005, the top block the recipe's, each below 0.5 times that of the one above",
        "unfrozen": "the head first, then a block every 40 from the top down",
    }
