"""Tagged words as tokens: each tag stands at its word's tokens, and is told from those again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from finetune.data import CHUNK
from finetune.errors import DataError, ModelError
from finetune.tasks.encoding import NO_LABEL, Chunk, EncodedSplit, end_to_end
from finetune.tasks.pretrained import Pretrained, load_tokenizer
from finetune.tasks.tagged_words import TaggedWords

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from finetune.tasks.columns import Integers

NO_WORD = -1
"""Stands at a token that no word begins with."""
OUTSIDE = "O"


def load_tokenizer_of_words(source: Pretrained, *, max_length: int) -> PreTrainedTokenizerBase:
    """Returns the tokenizer, which takes a word from a list as it takes it in a text.

    Some put no space before such a word unless they are told to. Raises ModelError as `load_tokenizer`, and where it
    can't say which word a token is of.
    """
    tokenizer = load_tokenizer(source, max_length=max_length)
    if not tokenizer.is_fast:
        raise ModelError(
            f"{source.location}: its tokenizer, {type(tokenizer).__name__}, can't say which word a token is of; "
            "token_classification needs one with a tokenizer.json"
        )
    if _takes_words_as_in_texts(tokenizer):
        return tokenizer
    spaced = load_tokenizer(source, max_length=max_length, add_prefix_space=True)
    return spaced if _takes_words_as_in_texts(spaced) else tokenizer


def _takes_words_as_in_texts(tokenizer: PreTrainedTokenizerBase) -> bool:
    listed = tokenizer(["a", "a"], is_split_into_words=True, verbose=False)["input_ids"]
    return bool(listed == tokenizer("a a", verbose=False)["input_ids"])


def tokenise_words(
    examples: TaggedWords,
    *,
    label_all: bool,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    chunk_size: int = CHUNK,
) -> Iterator[Chunk]:
    """Yields the examples tokenised, `chunk_size` at a time, cut to `max_length`.

    Of their features "labels" has the tag of each token, −100 where it has none, and "words" the place in its example
    of the word that a token is the first of, −1 where it isn't.
    """
    inner = _tags_within_words(examples.names) if label_all else np.full(len(examples.names), NO_LABEL)
    for start in range(0, len(examples), chunk_size):
        end = min(start + chunk_size, len(examples))
        encoded = tokenizer(
            examples.words.of(start, end),
            is_split_into_words=True,
            truncation=True,
            max_length=max_length,
            padding=False,
            verbose=False,
        )
        encodings = encoded.encodings
        placed = [
            _place(encoding.word_ids, examples.tags_of(row), inner)
            for row, encoding in enumerate(encodings or (), start=start)
        ]
        features = {name: values for name, values in encoded.items() if name != "attention_mask"}
        features["labels"] = [labels for labels, _ in placed]
        features["words"] = [words for _, words in placed]
        yield Chunk(
            features={name: end_to_end(values) for name, values in features.items()},
            lengths=np.fromiter(map(len, encoded["input_ids"]), dtype=np.int64),
            truncated=sum(bool(encoding.overflowing) for encoding in encodings or ()),
        )


def _place(word_of_each: Sequence[int | None], tags: Integers, inner: Integers) -> tuple[Integers, Integers]:
    """Returns the label of each token, and the word that it is the first of; `inner`: the label of its other tokens."""
    words = np.array([NO_WORD if word is None else word for word in word_of_each], dtype=np.int64)
    is_first = (words != NO_WORD) & (words != np.concatenate([[NO_WORD], words[:-1]]))
    labels = np.full(len(words), NO_LABEL, dtype=np.int64)
    labels[is_first] = tags[words[is_first]]
    is_inner = (words != NO_WORD) & ~is_first
    labels[is_inner] = inner[tags[words[is_inner]]]
    words[~is_first] = NO_WORD
    return labels, words


def _tags_within_words(names: Sequence[str]) -> Integers:
    """Returns the tag that follows each one within a word: of a B-TYPE, the I-TYPE if there is one."""
    numbers = {name: number for number, name in enumerate(names)}
    followed = (numbers.get(f"I-{name[2:]}", own) if name.startswith("B-") else own for name, own in numbers.items())
    return np.fromiter(followed, dtype=np.int64, count=len(names))


@dataclass(frozen=True)
class TaggedSplit(EncodedSplit):
    """An `EncodedSplit` of `examples`, all of them or some, that tells the tags of words from those of tokens."""

    examples: TaggedWords = field(kw_only=True)

    def check(self, split: str) -> None:
        """Raises DataError where an example of `split`, as this split is called, has no token with a tag."""
        without = np.flatnonzero([len(labels) == 0 for labels in self._labels_of_each()])
        if len(without):
            raise DataError(
                f"the tokenizer makes no token of any word of {len(without):,} of the {len(self):,} examples of the "
                f"{split} split, the first of them row {self.rows[without[0]] + 1:,}: fill or remove them"
            )

    def labels_of_tokens(self) -> Integers:
        """Returns the tags of all tokens that have one, end to end."""
        return np.concatenate([np.zeros(0, dtype=np.int32), *self._labels_of_each()])

    def _labels_of_each(self) -> Iterator[Integers]:
        labels = self.features["labels"]
        for start, length in zip(self.starts, self.lengths, strict=True):
            own = labels[start : start + length]
            yield own[own != NO_LABEL]

    def true(self) -> list[list[str]]:
        """Returns the tags of each example's words."""
        names = self.examples.names
        return [[names[tag] for tag in self.examples.tags_of(row)] for row in self.rows]

    def predicted(self, tags: Integers) -> list[list[str]]:
        """Returns the tag of each example's words, of the tags of its tokens, shape (n, tokens): those of each word's
        first token; "O" of words without one."""
        names, places = self.examples.names, self.features["words"]
        found = []
        for row, start, length, given in zip(self.rows, self.starts, self.lengths, tags, strict=True):
            words = places[start : start + length]
            answers = [OUTSIDE] * len(self.examples.tags_of(row))
            for token in np.flatnonzero(words != NO_WORD):
                answers[words[token]] = names[given[token]]
            found.append(answers)
        return found
