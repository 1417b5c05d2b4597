"""Loading the tokenizer of a model: what is refused, how long a text may be, and what pads."""

import json

import pytest

from finetune.errors import ModelError
from finetune.tasks.pretrained import load_tokenizer
from tests.tasks.model_folders import configure, halve, local


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_broken_tokenizer_is_a_model_error(folder, name):
    halve(folder / name)
    with pytest.raises(ModelError, match="the tokenizer can't be loaded: ") as caught:
        load_tokenizer(local(folder), max_length=32)
    assert str(folder) in str(caught.value)


def test_a_missing_tokenizer_is_a_model_error(folder):
    # transformers gives one that takes every word for unknown.
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"holds no vocabulary; is its tokenizer\.json missing\?"):
        load_tokenizer(local(folder), max_length=32)


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(folder, tokenizer):
    configure(folder, vocab_size=len(tokenizer) - 1)
    with pytest.raises(ModelError, match=f"has {len(tokenizer)} tokens, but its model only {len(tokenizer) - 1}"):
        load_tokenizer(local(folder), max_length=32)


def test_a_token_numbered_beyond_the_model_is_refused(folder, tokenizer):
    size = len(tokenizer)
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["vocab"]["film"] = size + 7
    path.write_text(json.dumps(content))
    with pytest.raises(
        ModelError, match=f"has {size + 8} tokens, but its model only {size}; they don't belong together"
    ):
        load_tokenizer(local(folder), max_length=32)


def test_the_longest_text_is_what_the_model_has_positions_for(source):
    assert load_tokenizer(source, max_length=64)
    with pytest.raises(ModelError, match=r"takes 64 tokens at most, not 65; set task\.max_length to 64 or less"):
        load_tokenizer(source, max_length=65)


def test_a_tokenizer_that_allows_less_than_the_model_decides(folder):
    configure(folder, "tokenizer_config.json", model_max_length=48)
    with pytest.raises(ModelError, match="takes 48 tokens at most"):
        load_tokenizer(local(folder), max_length=64)


def drop_padding_token(folder):
    configure(folder, "tokenizer_config.json", pad_token=None, tokenizer_class="TokenizersBackend")


def test_without_a_padding_token_the_end_token_pads(folder):
    drop_padding_token(folder)
    configure(folder, "tokenizer_config.json", eos_token="[SEP]")
    tokenizer = load_tokenizer(local(folder), max_length=32)
    assert tokenizer.pad_token_id == tokenizer.convert_tokens_to_ids("[SEP]")


@pytest.mark.parametrize("limit", [[64], "64"])
def test_a_limit_of_tokens_that_is_no_number_is_refused(folder, limit):
    configure(folder, "tokenizer_config.json", model_max_length=limit)
    with pytest.raises(ModelError, match=r"is not a number; leave it out|the tokenizer can't be loaded"):
        load_tokenizer(local(folder), max_length=32)


def test_a_tokenizer_that_cannot_pad_is_refused(folder):
    drop_padding_token(folder)
    with pytest.raises(ModelError, match="neither a padding nor an end token"):
        load_tokenizer(local(folder), max_length=32)
