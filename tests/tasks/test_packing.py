"""Blocks of tokens: all of them, in order, in as few sequences as there can be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.errors import DataError
from finetune.tasks.encoding import Chunk
from finetune.tasks.packing import none_empty, packed, special_around, sums_of_each


def chunk(texts):
    ids = np.array([token for text in texts for token in text], dtype=np.int32)
    return Chunk({"input_ids": ids}, np.array([len(text) for text in texts]), truncated=0)


def examples(chunks):
    for each in chunks:
        yield from np.split(each.features["input_ids"], np.cumsum(each.lengths)[:-1])


token = st.integers(min_value=10, max_value=99)
chunked = st.lists(st.lists(st.lists(token, max_size=20), min_size=1, max_size=4), min_size=1, max_size=6)


@given(chunks=chunked, size=st.integers(min_value=4, max_value=30))
def test_blocks_hold_every_token_once_and_in_order(chunks, size):
    stream = [token for texts in chunks for text in texts for token in text]
    blocks = [list(block) for block in examples(packed(map(chunk, chunks), size=size, before=[1, 2], after=[3]))]
    room = size - 3
    assert blocks == [[1, 2, *stream[start : start + room], 3] for start in range(0, len(stream), room)]


def test_without_special_tokens_blocks_are_cut_out_of_the_stream():
    blocks = [list(block) for block in examples(packed([chunk([[1, 2, 3], [4, 5]])], size=2))]
    assert blocks == [[1, 2], [3, 4], [5]]


def test_the_special_tokens_of_a_tokenizer_are_found(tokenizer, causal_tokenizer):
    assert special_around(tokenizer) == ([tokenizer.cls_token_id], [tokenizer.sep_token_id])
    assert special_around(causal_tokenizer) == ([], [])


def test_sums_are_of_each_example():
    assert list(sums_of_each(np.array([1, 0, 1, 1, 1]), np.array([2, 0, 3]))) == [1, 0, 3]


def test_examples_of_which_nothing_counts_are_counted_and_the_first_is_named():
    chunks = [chunk([[1]]), chunk([[1], [], []])]
    read = none_empty(chunks, lambda some: some.lengths, problem="{} of {}, first {}".format)
    assert [next(read), next(read)] == chunks
    with pytest.raises(DataError, match="2 of 4, first 3"):
        next(read)
