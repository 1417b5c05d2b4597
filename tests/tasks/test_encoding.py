"""Tokenised examples and the batches they are padded into, against what the tokenizer itself does."""

import numpy as np
import pytest
import torch

from finetune.errors import DataError
from finetune.tasks.encoding import EncodedSplit, Padding, in_memory, tokenise

WORDS = ["film", "story", "dull", "brilliant", "night"]


def encode_texts(texts, pairs, labels, **settings):
    return EncodedSplit.of(in_memory(tokenise(texts, pairs, **settings)), labels)


def texts_of(lengths):
    return [" ".join(WORDS[(row + place) % len(WORDS)] for place in range(n)) for row, n in enumerate(lengths)]


SINGLES = (texts_of([3, 10, 0, 6, 7, 1, 30]), None)
PAIRS = (texts_of([3, 10, 0, 2, 7, 1, 30]), texts_of([1, 1, 5, 3, 7, 20, 30]))
LABELS = [0, 1, 0, 1, 1, 0, 1]


@pytest.fixture(params=[SINGLES, PAIRS], ids=["singles", "pairs"])
def parts(request):
    return request.param


@pytest.fixture
def encode(tokenizer, parts):
    def run(max_length=64, **settings):
        return encode_texts(*parts, LABELS, tokenizer=tokenizer, max_length=max_length, **settings)

    return run


def tokens(tokenizer, parts, **settings):
    return tokenizer(*[part for part in parts if part is not None], **settings)


def test_an_example_is_what_the_tokenizer_gives(encode, tokenizer, parts):
    encoded, expected = encode(), tokens(tokenizer, parts)
    for index, label in enumerate(LABELS):
        example = encoded[index]
        assert list(example["input_ids"]) == expected["input_ids"][index]
        assert list(example["token_type_ids"]) == expected["token_type_ids"][index]
        assert example["labels"] == label
    assert len(encoded) == len(LABELS)


@pytest.mark.parametrize("max_length", [8, 9, 12, 64])
def test_long_examples_are_cut_as_the_tokenizer_cuts_them(encode, tokenizer, parts, max_length):
    expected = tokens(tokenizer, parts, truncation=True, max_length=max_length)
    encoded = encode(max_length)
    assert [list(encoded[index]["input_ids"]) for index in range(len(encoded))] == expected["input_ids"]


@pytest.mark.parametrize("max_length", [8, 9, 12, 64])
def test_truncated_counts_the_examples_longer_than_allowed(encode, tokenizer, parts, max_length):
    whole = tokens(tokenizer, parts)["input_ids"]
    assert encode(max_length).truncated == sum(len(ids) > max_length for ids in whole)


def test_truncated_is_counted_for_tokenizers_without_encodings(encode, monkeypatch):
    from transformers import BatchEncoding

    expected = encode(12).truncated
    monkeypatch.setattr(BatchEncoding, "encodings", None)
    assert encode(12).truncated == expected > 0


def test_chunks_make_no_difference(encode):
    whole, pieces = encode(12), encode(12, chunk_size=2)
    assert all((whole.features[name] == pieces.features[name]).all() for name in whole.features)
    assert list(whole.starts) == list(pieces.starts)
    assert list(whole.lengths) == list(pieces.lengths)
    assert whole.truncated == pieces.truncated


def test_lengths_count_the_tokens_of_each_example(encode, tokenizer, parts):
    assert list(encode().lengths) == [len(ids) for ids in tokens(tokenizer, parts)["input_ids"]]


def test_sorted_by_length_is_a_permutation_that_rows_undo(encode):
    encoded = encode()
    ordered = encoded.sorted_by_length()
    assert list(ordered.lengths) == sorted(encoded.lengths, reverse=True)
    assert sorted(ordered.rows) == list(range(len(encoded)))
    for index, row in enumerate(ordered.rows):
        before, after = encoded[row], ordered[index]
        assert before.keys() == after.keys()
        assert all(np.array_equal(before[name], after[name]) for name in before)
    assert ordered.truncated == encoded.truncated


def test_examples_of_one_length_keep_their_order(tokenizer):
    encoded = encode_texts(["film", "dull film"] * 50, None, [0] * 100, tokenizer=tokenizer, max_length=8)
    assert list(encoded.sorted_by_length().rows) == [*range(1, 100, 2), *range(0, 100, 2)]


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_batch_is_what_the_tokenizer_pads(encode, tokenizer, parts, side):
    tokenizer.padding_side = side
    encoded = encode()
    expected = tokenizer.pad(tokens(tokenizer, parts), padding="longest", pad_to_multiple_of=8, return_tensors="pt")
    batch = Padding.of(tokenizer)([encoded[index] for index in range(len(encoded))])
    assert batch.keys() == expected.keys() | {"labels"}
    for name in expected:
        assert torch.equal(batch[name], expected[name]), name
    assert batch["labels"].tolist() == LABELS


@pytest.mark.parametrize(("longest", "width"), [(1, 8), (6, 8), (7, 16), (14, 16), (15, 24)])
def test_a_batch_is_as_wide_as_its_longest_example_in_steps_of_eight(tokenizer, longest, width):
    # Two special tokens come on top of the words.
    encoded = encode_texts(texts_of([1, longest]), None, [0, 1], tokenizer=tokenizer, max_length=64)
    assert Padding.of(tokenizer)([encoded[0], encoded[1]])["input_ids"].shape == (2, width)


def test_the_mask_is_one_on_tokens_and_zero_on_padding(tokenizer):
    encoded = encode_texts(texts_of([3]), None, [0], tokenizer=tokenizer, max_length=64)
    assert Padding.of(tokenizer)([encoded[0]])["attention_mask"].tolist() == [[1, 1, 1, 1, 1, 0, 0, 0]]


def test_padding_has_the_tokens_own_value(encode):
    padding = Padding(pad_values={"input_ids": 77, "token_type_ids": 3})
    batch = padding([encode()[2], encode()[6]])
    blank = batch["attention_mask"] == 0
    assert blank.any()
    assert (batch["input_ids"][blank] == 77).all()
    assert (batch["token_type_ids"][blank] == 3).all()


def test_all_tensors_of_a_batch_are_whole_numbers(encode, tokenizer):
    batch = Padding.of(tokenizer)([encode()[0]])
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_a_text_of_no_token_is_refused():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"film": 0, "?": 1}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    bare = PreTrainedTokenizerFast(tokenizer_object=words)
    encode_texts(["film", "?"], None, [0, 1], tokenizer=bare, max_length=8).check("train")
    blank = encode_texts(["film", "", "film", " "], None, [0, 1, 0, 1], tokenizer=bare, max_length=8)
    with pytest.raises(DataError) as caught:
        blank.check("test")
    assert str(caught.value) == (
        "the tokenizer makes no token of 2 of the 4 texts of the test split, the first of them row 2: fill or remove them"
    )
