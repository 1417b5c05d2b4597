"""Texts as tokens with their end, and the blocks that they are packed into."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune.data import CHUNK
from finetune.errors import DataError
from finetune.tasks.encoding import Chunk, Integers, end_to_end

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def ended_texts(
    texts: Sequence[str],
    *,
    tokenizer: PreTrainedTokenizerBase,
    end: int,
    special: bool,
    max_length: int | None = None,
    chunk_size: int = CHUNK,
) -> Iterator[Chunk]:
    """Yields the texts tokenised, `chunk_size` at a time, each followed by the token `end` where it hasn't one.

    `special`: whether the tokenizer's own special tokens are added; `max_length`: where each is cut, its end included.
    """
    for start in range(0, len(texts), chunk_size):
        encoded = tokenizer(
            list(texts[start : start + chunk_size]), add_special_tokens=special, truncation=False, verbose=False
        )
        ids = [each if each and each[-1] == end else [*each, end] for each in encoded["input_ids"]]
        kept = [each[:max_length] for each in ids]
        yield Chunk(
            features={"input_ids": end_to_end(kept)},
            lengths=np.fromiter(map(len, kept), dtype=np.int64),
            truncated=sum(len(part) < len(whole) for part, whole in zip(kept, ids, strict=True)),
        )


def packed(
    chunks: Iterable[Chunk], *, size: int, before: Sequence[int] = (), after: Sequence[int] = ()
) -> Iterator[Chunk]:
    """Yields the texts of `chunks` end to end, cut into blocks of `size` tokens, the last of which may be shorter.

    Each block is put between `before` and `after`, which count. No token is left out, and a block knows nothing of
    where one text ends and the next begins but by their end tokens.
    """
    room = size - len(before) - len(after)
    rest: Any = np.zeros(0, dtype=np.int32)
    for chunk in chunks:
        stream = np.concatenate([rest, chunk.features["input_ids"]])
        whole = len(stream) // room
        if whole:
            yield _blocks(stream[: whole * room].reshape(whole, room), before, after)
        rest = stream[whole * room :]
    if len(rest):
        yield _blocks(rest[None], before, after)


def _blocks(blocks: Integers, before: Sequence[int], after: Sequence[int]) -> Chunk:
    count = len(blocks)
    columns = [np.tile(np.asarray(special, dtype=np.int32), (count, 1)) for special in (before, after)]
    whole = np.hstack([columns[0], blocks, columns[1]])
    return Chunk({"input_ids": whole.reshape(-1)}, np.full(count, whole.shape[1], dtype=np.int64), truncated=0)


def special_around(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Returns the special tokens that the tokenizer puts before a text and after it."""
    inner: list[int] = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole: list[int] = tokenizer("a")["input_ids"]
    start = next(start for start in range(len(whole) + 1) if whole[start : start + len(inner)] == inner)
    return whole[:start], whole[start + len(inner) :]


def none_empty(
    chunks: Iterable[Chunk], counted: Callable[[Chunk], Integers], *, problem: Callable[[int, int, int], str]
) -> Iterator[Chunk]:
    """Yields `chunks`; then raises DataError where a model learns nothing of an example, as `counted` is 0 there.

    `counted`: how many tokens of each example count; `problem` is given how many there are without, of how many, and
    the number of the first, counted from 1.
    """
    without, read, first = 0, 0, 0
    for chunk in chunks:
        empty = np.flatnonzero(counted(chunk) == 0)
        if len(empty):
            first = first or read + int(empty[0]) + 1
            without += len(empty)
        read += len(chunk.lengths)
        yield chunk
    if without:
        raise DataError(problem(without, read, first))


def sums_of_each(values: Any, lengths: Integers) -> Integers:
    """Returns the sum of the values of each example, which lie end to end, shape (n,)."""
    ends = np.cumsum(lengths)
    sums = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
    summed: Integers = sums[ends] - sums[ends - lengths]
    return summed
