"""Tokenised examples in compact arrays, and the collator that pads them into batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from finetune.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Integers = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class EncodedSplit(torch.utils.data.Dataset[dict[str, Any]]):
    """The n examples of one split, tokenised.

    `features`: name ▶ the values of all examples, end to end (tokens in all, not n × longest); `offsets`: n + 1 bounds
    of the examples in them; `labels`: n class numbers; `rows`: n positions in the split as it was read; `truncated`:
    how many examples were longer than allowed.
    """

    features: Mapping[str, Integers]
    offsets: Integers
    labels: Integers
    rows: Integers
    truncated: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        start, end = self.offsets[index], self.offsets[index + 1]
        example: dict[str, Any] = {name: values[start:end] for name, values in self.features.items()}
        return {**example, "labels": self.labels[index]}

    @property
    def lengths(self) -> Integers:
        """Tokens of each example."""
        return np.diff(self.offsets)

    def require_tokens(self, split: str) -> None:
        """Raises DataError where an example of `split`, as this split is called, has no token."""
        without = np.flatnonzero(self.lengths == 0)
        if len(without):
            raise DataError(
                f"the tokenizer makes no token of {len(without):,} of the {len(self):,} texts of the {split} split, "
                f"the first of them row {self.rows[without[0]] + 1:,}: fill or remove them"
            )

    def sorted_by_length(self) -> EncodedSplit:
        """Returns the same examples, longest first, so that batches in order are padded little."""
        return self.select(np.argsort(-self.lengths, kind="stable"))

    def select(self, positions: Integers) -> EncodedSplit:
        """Returns the examples at `positions`, in that order."""
        bounds = [(self.offsets[position], self.offsets[position + 1]) for position in positions]
        return EncodedSplit(
            features={
                name: np.concatenate([values[start:end] for start, end in bounds])
                for name, values in self.features.items()
            },
            offsets=np.concatenate([[0], np.cumsum(self.lengths[positions])]),
            labels=self.labels[positions],
            rows=self.rows[positions],
            truncated=self.truncated,
        )


def encode_texts(
    texts: Sequence[str],
    pairs: Sequence[str] | None,
    labels: Sequence[int],
    *,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    chunk_size: int = 1000,
) -> EncodedSplit:
    """Returns the examples tokenised, each cut to `max_length` tokens (of a pair, the longer part first)."""
    features: dict[str, list[Integers]] = {}
    lengths: list[int] = []
    truncated = 0
    for start in range(0, len(texts), chunk_size):
        chunk = [list(part[start : start + chunk_size]) for part in (texts, pairs) if part is not None]
        encoded = tokenizer(*chunk, truncation=True, max_length=max_length, padding=False, verbose=False)
        lengths += [len(ids) for ids in encoded["input_ids"]]
        truncated += _count_truncated(encoded, chunk, tokenizer, max_length)
        for name, values in encoded.items():
            if name != "attention_mask":
                features.setdefault(name, []).append(np.concatenate([np.asarray(v, dtype=np.int64) for v in values]))
    return EncodedSplit(
        features={name: np.concatenate(parts).astype(np.int32) for name, parts in features.items()},
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        labels=np.asarray(labels, dtype=np.int64),
        rows=np.arange(len(labels)),
        truncated=truncated,
    )


def _count_truncated(encoded: Any, chunk: list[list[str]], tokenizer: PreTrainedTokenizerBase, max_length: int) -> int:
    if encoded.encodings is not None:
        return sum(bool(encoding.overflowing) for encoding in encoded.encodings)
    whole = tokenizer(*chunk, truncation=False, padding=False, verbose=False)
    return sum(len(ids) > max_length for ids in whole["input_ids"])


@dataclass(frozen=True)
class Padding:
    """A collator: pads every feature of a batch to its longest example, rounded up to `multiple` tokens.

    Few distinct shapes keep kernels warm; the attention mask is made here. Returns int64 tensors of shape
    (examples, tokens), and labels of shape (examples,).
    """

    pad_values: Mapping[str, int]
    side: str = "right"
    multiple: int = 8
    names: tuple[str, ...] = field(default=("input_ids", "token_type_ids"))

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> Padding:
        """Returns the padding that `tokenizer` would do."""
        values = {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id}
        return cls(pad_values=values, side=tokenizer.padding_side)

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        lengths = [len(example["input_ids"]) for example in examples]
        width = -(-max(lengths) // self.multiple) * self.multiple
        names = [name for name in self.names if name in examples[0]]
        arrays = {name: np.full((len(examples), width), self.pad_values[name], dtype=np.int64) for name in names}
        arrays["attention_mask"] = np.zeros((len(examples), width), dtype=np.int64)
        for row, (example, length) in enumerate(zip(examples, lengths, strict=True)):
            columns = slice(0, length) if self.side == "right" else slice(width - length, width)
            for name in names:
                arrays[name][row, columns] = example[name]
            arrays["attention_mask"][row, columns] = 1
        arrays["labels"] = np.asarray([example["labels"] for example in examples], dtype=np.int64)
        return {name: torch.from_numpy(array) for name, array in arrays.items()}
