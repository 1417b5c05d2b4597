"""Examples of several sequences each, of which one is to be chosen, and the collator that makes batches of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from finetune.errors import DataError
from finetune.tasks.encoding import EncodedSplit, Integers, Padding, Tokens, stacked


@dataclass(frozen=True)
class EncodedChoices(torch.utils.data.Dataset[dict[str, Any]]):
    """n examples of one split, each of `count` sequences, tokenised: those of `sequences`, in turn.

    `labels`: the number of the right one of each, shape (n,); `rows`: n positions in the split as it was encoded.
    """

    sequences: EncodedSplit
    count: int
    labels: Integers
    rows: Integers

    @classmethod
    def of(cls, tokens: Tokens, labels: Integers, *, count: int) -> EncodedChoices:
        """Returns all examples of a split, in order."""
        return cls(EncodedSplit.of(tokens, None), count, labels, np.arange(len(labels)))

    @property
    def lengths(self) -> Integers:
        """How many tokens the longest sequence of each example has, shape (n,)."""
        longest: Integers = self.sequences.lengths.reshape(-1, self.count).max(axis=1)
        return longest

    @property
    def truncated(self) -> int:
        """How many examples of the split had a sequence that was longer than allowed."""
        return self.sequences.truncated

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        first = self.count * index
        return {
            "sequences": [self.sequences[number] for number in range(first, first + self.count)],
            "labels": self.labels[index],
        }

    def check(self, split: str) -> None:
        """Raises DataError where a sequence of `split`, as this split is called, has no token."""
        without = np.flatnonzero(self.sequences.lengths == 0)
        if len(without):
            row, choice = divmod(int(without[0]), self.count)
            raise DataError(
                f"the tokenizer makes no token of {len(without):,} of the {len(self.sequences):,} choices of the "
                f"{split} split, the first of them choice {choice} of row {self.rows[row] + 1:,}: fill or remove them"
            )

    def sorted_by_length(self) -> EncodedChoices:
        """Returns the same examples, longest first, so that batches in order are padded little."""
        return self.select(np.argsort(-self.lengths, kind="stable"))

    def select(self, positions: Integers) -> EncodedChoices:
        """Returns the examples at `positions`, in that order; their tokens stay where they are."""
        places = np.asarray(positions)[:, None] * self.count + np.arange(self.count)
        return EncodedChoices(
            self.sequences.select(places.reshape(-1)), self.count, self.labels[positions], self.rows[positions]
        )


@dataclass(frozen=True)
class ChoicePadding:
    """A collator: pads all sequences of a batch by `padding`, into tensors of shape (examples, choices, tokens)."""

    padding: Padding

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        count = len(examples[0]["sequences"])
        sequences = [{**each, "labels": 0} for example in examples for each in example["sequences"]]
        batch = {name: tensor.reshape(len(examples), count, -1) for name, tensor in self.padding(sequences).items()}
        return batch | {"labels": torch.from_numpy(stacked([example["labels"] for example in examples]))}
