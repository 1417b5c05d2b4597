"""Questions with windows over their texts, tokenised, each window a sequence of its own."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from finetune.data import CHUNK
from finetune.errors import DataError
from finetune.tasks.encoding import Chunk, EncodedSplit, Integers, Tokens, end_to_end

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from finetune.tasks.questions import Questions

WINDOWS, STARTS, ENDS = "windows", "character_starts", "character_ends"
MADE = frozenset({"attention_mask", "overflow_to_sample_mapping", "offset_mapping"})
"""What a tokenizer gives beside what a model takes and isn't made when a batch is."""


@dataclass(frozen=True)
class Windows(torch.utils.data.Dataset[dict[str, Any]]):
    """n windows over the contexts of a split's questions.

    `encoded`: the question and the part of the context of each, and, as features that no model is given, at which
    character of the context each of its tokens starts and ends. Its labels, shape (n, 5): the tokens at which the
    answer starts and ends, 0 where it isn't wholly in the window; then how many tokens there are, the first of the
    context, and the one after its last. `questions`: shape (n,), the position of the question of each in `examples`.
    """

    encoded: EncodedSplit
    questions: Integers
    examples: Questions

    @classmethod
    def of(cls, tokens: Tokens, examples: Questions) -> Windows:
        """Returns all windows of a split, those of a question one after the other."""
        features = tokens.features
        questions, first, after = np.asarray(features[WINDOWS]).reshape(-1, 3).T
        lengths = np.diff(tokens.offsets)
        labels = np.zeros((len(questions), 5), dtype=np.int64)
        labels[:, 2:] = np.stack([lengths, first, after], axis=1)
        bounds = zip(questions, tokens.offsets[:-1] + first, tokens.offsets[:-1] + after, strict=True)
        for window, (question, begin, end) in enumerate(bounds):
            answer = examples.accepted.starts[question], examples.accepted.ends[question]
            found = _tokens_of(answer, features[STARTS][begin:end], features[ENDS][begin:end])
            if found:
                labels[window, :2] = first[window] + np.array(found)
        of_tokens: Any = copy.copy(features)
        del of_tokens[WINDOWS]
        return cls(EncodedSplit.of(replace(tokens, features=of_tokens), labels), questions, examples)

    @property
    def lengths(self) -> Integers:
        """How many tokens each window has, the question included."""
        return self.encoded.lengths

    @property
    def rows(self) -> Integers:
        """The place of each window in the whole split, as encoded."""
        return self.encoded.rows

    @property
    def truncated(self) -> int:
        """None: what is longer than a window is read in several."""
        return 0

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.encoded[index]

    def check(self, split: str) -> None:
        """Raises DataError where a window has no token."""
        self.encoded.check(split)

    def sorted_by_length(self) -> Windows:
        """Returns the same windows, longest first, so that batches in order are padded little."""
        return self.select(np.argsort(-self.lengths, kind="stable"))

    def select(self, positions: Integers) -> Windows:
        """Returns the windows at `positions`, in that order."""
        return Windows(self.encoded.select(positions), self.questions[positions], self.examples)

    def characters(self, windows: Integers, first: Integers, last: Integers) -> tuple[Integers, Integers]:
        """Returns where in their contexts spans of tokens begin, and after which character they end."""
        begins = self.encoded.starts[windows]
        return self.encoded.features[STARTS][begins + first], self.encoded.features[ENDS][begins + last]


def _tokens_of(answer: tuple[int, int], starts: Integers, ends: Integers) -> tuple[int, int] | None:
    """Returns the first and the last token of an answer in a window, None where it isn't wholly there, or is none."""
    start, end = answer
    if start < 0 or not len(starts) or start < starts[0] or end > ends[-1]:
        return None
    first, last = int(np.searchsorted(ends, start, side="right")), int(np.searchsorted(starts, end, side="left")) - 1
    return (first, last) if first <= last else None


def windows_over(
    examples: Questions, *, tokenizer: PreTrainedTokenizerBase, max_length: int, stride: int, chunk_size: int = CHUNK
) -> Iterator[Chunk]:
    """Yields windows of `max_length` tokens at most, the question and a part of the context, which shares `stride`
    tokens with the part before; those of `chunk_size` questions at a time.

    Among the features of a chunk are the three whole numbers of each window (its question, the first token of the
    context and the one after its last) and of each token where it starts and ends in the context. Raises DataError
    where a question leaves no room for more of its context than `stride`.
    """
    room = max_length - tokenizer.num_special_tokens_to_add(pair=True)
    for start in range(0, len(examples), chunk_size):
        questions, contexts = (
            list(part[start : start + chunk_size]) for part in (examples.questions, examples.contexts)
        )
        _check_room(examples.split, start, questions, room - stride, tokenizer)
        encoded = tokenizer(
            questions,
            contexts,
            truncation="only_second",
            max_length=max_length,
            stride=stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            padding=False,
            verbose=False,
        )
        bounds, offsets = [], []
        for encoding, question in zip(encoded.encodings, encoded["overflow_to_sample_mapping"], strict=True):
            parts = encoding.sequence_ids
            first = parts.index(1) if 1 in parts else len(parts)
            after = first + parts.count(1)
            bounds.append((start + question, first, after))
            spans = np.zeros((len(parts), 2), dtype=np.int32)
            spans[first:after] = encoding.offsets[first:after]
            offsets.append(spans)
        starts, ends = np.concatenate(offsets).T
        yield Chunk(
            features={name: end_to_end(values) for name, values in encoded.items() if name not in MADE}
            | {WINDOWS: end_to_end(bounds), STARTS: starts.copy(), ENDS: ends.copy()},
            lengths=np.fromiter(map(len, encoded["input_ids"]), dtype=np.int64),
            truncated=0,
        )
    # So that the tokenizer is saved as it is where all windows are found in the cache.
    tokenizer("", truncation=True, max_length=max_length, padding=False, verbose=False)


def _check_room(
    split: str, start: int, questions: Sequence[str], most: int, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Raises DataError where a question has `most` tokens or more."""
    ids = tokenizer(questions, add_special_tokens=False, truncation=False, padding=False, verbose=False)["input_ids"]
    for row, tokens in enumerate(ids, start + 1):
        if len(tokens) >= most:
            raise DataError(
                f"the question in row {row:,} of the {split} split has {len(tokens)} tokens, which leaves no room for "
                f"its context: {most - 1} is the most; shorten it, raise task.max_length or lower task.stride"
            )
