"""Tokenised examples in compact arrays, and the collator that pads them into batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from finetune.data import CHUNK
from finetune.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Integers = np.ndarray[Any, np.dtype[np.signedinteger[Any]]]


@dataclass(frozen=True)
class Chunk:
    """Some examples, one after the other: `features`: name ▶ the int32 values of all, end to end; `lengths`: how many
    tokens each has; `truncated`: how many of them were longer than allowed."""

    features: Mapping[str, Integers]
    lengths: Integers
    truncated: int


@dataclass(frozen=True)
class Tokens:
    """All n examples of a split as a `Chunk` has them; `offsets`: n + 1 bounds of the examples in the features."""

    features: Mapping[str, Integers]
    offsets: Integers
    truncated: int


@dataclass(frozen=True)
class EncodedSplit(torch.utils.data.Dataset[dict[str, Any]]):
    """n examples of one split, tokenised.

    `features`: name ▶ the values of all examples of the split, end to end (tokens in all, not n × longest), in memory
    or in a mapped file; `starts`, `lengths`: where in them each of the n begins, and how many tokens it has; `labels`:
    shape (n, …), whole numbers or floats; None where every token has its own, which is then the feature "labels";
    `rows`: n positions in the split as it was encoded; `truncated`: how many examples of the split were longer than
    allowed.
    """

    features: Mapping[str, Integers]
    starts: Integers
    lengths: Integers
    labels: Any
    rows: Integers
    truncated: int = 0

    @classmethod
    def of(cls, tokens: Tokens, labels: Any, **more: Any) -> Self:
        """Returns all examples of a split, in order; `more`: what a subclass has besides."""
        return cls(
            features=tokens.features,
            starts=tokens.offsets[:-1],
            lengths=np.diff(tokens.offsets),
            labels=None if labels is None else np.asarray(labels),
            rows=np.arange(len(tokens.offsets) - 1),
            truncated=tokens.truncated,
            **more,
        )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        start = self.starts[index]
        end = start + self.lengths[index]
        example: dict[str, Any] = {name: values[start:end] for name, values in self.features.items()}
        return example if self.labels is None else {**example, "labels": self.labels[index]}

    def check(self, split: str) -> None:
        """Raises DataError where an example of `split`, as this split is called, has no token."""
        without = np.flatnonzero(self.lengths == 0)
        if len(without):
            raise DataError(
                f"the tokenizer makes no token of {len(without):,} of the {len(self):,} texts of the {split} split, "
                f"the first of them row {self.rows[without[0]] + 1:,}: fill or remove them"
            )

    def sorted_by_length(self) -> Self:
        """Returns the same examples, longest first, so that batches in order are padded little."""
        return self.select(np.argsort(-self.lengths, kind="stable"))

    def select(self, positions: Integers) -> Self:
        """Returns the examples at `positions`, in that order; their tokens stay where they are."""
        return replace(
            self,
            starts=self.starts[positions],
            lengths=self.lengths[positions],
            labels=None if self.labels is None else self.labels[positions],
            rows=self.rows[positions],
        )


def tokenise(
    texts: Sequence[str],
    pairs: Sequence[str] | None,
    *,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    chunk_size: int = CHUNK,
    sequences: int = 1,
) -> Iterator[Chunk]:
    """Yields the examples tokenised, `chunk_size` at a time, cut to `max_length`: of a pair, the longer part first.

    `sequences`: how many texts in turn are one example, of which it is counted once that some were longer than allowed.
    """
    size = max(1, chunk_size // sequences) * sequences
    for start in range(0, len(texts), size):
        chunk = [list(part[start : start + size]) for part in (texts, pairs) if part is not None]
        encoded = tokenizer(*chunk, truncation=True, max_length=max_length, padding=False, verbose=False)
        cut = _truncated(encoded, chunk, tokenizer, max_length)
        yield Chunk(
            features={name: end_to_end(values) for name, values in encoded.items() if name != "attention_mask"},
            lengths=np.fromiter(map(len, encoded["input_ids"]), dtype=np.int64),
            truncated=sum(any(cut[place : place + sequences]) for place in range(0, len(cut), sequences)),
        )


def end_to_end(values: Iterable[Iterable[int]]) -> Integers:
    """Returns the values of all sequences one after the other, int32."""
    return np.fromiter(chain.from_iterable(values), dtype=np.int32)


def in_memory(chunks: Iterable[Chunk]) -> Tokens:
    """Returns the examples of all chunks."""
    parts: dict[str, bytearray] = {}  # which grow without a second copy of what they hold
    lengths = [np.zeros(1, dtype=np.int64)]
    truncated = 0
    for chunk in chunks:
        for name, values in chunk.features.items():
            parts.setdefault(name, bytearray()).extend(values.data.cast("B"))
        lengths.append(chunk.lengths)
        truncated += chunk.truncated
    features = {name: np.frombuffer(part, dtype=np.int32) for name, part in parts.items()}
    return Tokens(features, np.cumsum(np.concatenate(lengths)), truncated)


def _truncated(encoded: Any, chunk: list[list[str]], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[bool]:
    """Returns of each text whether it was longer than allowed."""
    if encoded.encodings is not None:
        return [bool(encoding.overflowing) for encoding in encoded.encodings]
    whole = tokenizer(*chunk, truncation=False, padding=False, verbose=False)
    return [len(ids) > max_length for ids in whole["input_ids"]]


NO_LABEL = -100
"""The label of a token that has none, by which losses and counts pass it over."""


@dataclass(frozen=True)
class Padding:
    """A collator: pads every feature of a batch to its longest example, rounded up to `multiple` tokens.

    Few distinct shapes keep kernels warm; the attention mask is made here. `pad_values`: the features that the model is
    given, each with what it is padded by. Returns int64 tensors of shape (examples, tokens), and labels: of the shape
    of each example's, int64 or float32, unless each token has its own.
    """

    pad_values: Mapping[str, int]
    side: str = "right"
    multiple: int = 8

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, **more: int) -> Padding:
        """Returns the padding that `tokenizer` would do; `more`: other features, and what they are padded by."""
        values = {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id}
        return cls(pad_values=values | more, side=tokenizer.padding_side)

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        lengths = [len(example["input_ids"]) for example in examples]
        width = -(-max(lengths) // self.multiple) * self.multiple
        names = [name for name in self.pad_values if name in examples[0]]
        arrays = {name: np.full((len(examples), width), self.pad_values[name], dtype=np.int64) for name in names}
        arrays["attention_mask"] = np.zeros((len(examples), width), dtype=np.int64)
        for row, (example, length) in enumerate(zip(examples, lengths, strict=True)):
            columns = slice(0, length) if self.side == "right" else slice(width - length, width)
            for name in names:
                arrays[name][row, columns] = example[name]
            arrays["attention_mask"][row, columns] = 1
        if "labels" not in arrays:
            arrays["labels"] = stacked([example["labels"] for example in examples])
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


def stacked(labels: Sequence[Any]) -> np.ndarray[Any, Any]:
    """Returns labels of one shape as an array of one dimension more: int64, or float32 where they are floats."""
    array = np.asarray(labels)
    return array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
