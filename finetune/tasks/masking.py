"""Tokens that are hidden from a model, drawn for each sequence by itself, whatever batch it is in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune.tasks.encoding import NO_LABEL, EncodedSplit, Padding

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    Integers = np.ndarray[Any, np.dtype[np.signedinteger[Any]]]
    Flags = np.ndarray[Any, np.dtype[np.bool_]]

EVALUATED, TRAINED = 0, 1
HIDDEN, REPLACED = 0.8, 0.1
"""The shares of the chosen tokens that are hidden, and replaced by one drawn at random; the rest stays as it is."""
CONTINUES = "##"


@dataclass(frozen=True)
class NumberedSplit(EncodedSplit):
    """Sequences that come with their "row", by which what is drawn for each is the same in any batch."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**super().__getitem__(index), "row": int(self.rows[index])}


@dataclass(frozen=True, eq=False)
class Masking:
    """A collator: chooses max(1, round(share · n)) of the n tokens of a sequence that may be, and pads the batch.

    The labels are the chosen tokens, and −100 for all others. `maskable`, `continues`: shape (vocabulary,), which
    tokens may be chosen, and which belong to the word before; without `continues` tokens are chosen one by one, else
    whole words until there are so many tokens. `replacements`: the tokens that one is replaced by. `drawn_from`: the
    whole numbers that decide all draws together with the row.
    """

    padding: Padding
    share: float
    mask: int
    maskable: Flags
    replacements: Integers
    continues: Flags | None = None
    drawn_from: tuple[int, ...] = (EVALUATED,)

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, *, share: float, whole_words: bool) -> Masking:
        """Returns the collator for evaluations: its masks are always the same."""
        mask: Any = tokenizer.mask_token_id
        may_be = maskable(tokenizer)
        return cls(
            padding=Padding.of(tokenizer, labels=NO_LABEL),
            share=share,
            mask=mask,
            maskable=may_be,
            replacements=np.flatnonzero(may_be),
            continues=continuing(tokenizer) if whole_words else None,
        )

    def in_epoch(self, seed: int, epoch: int) -> Masking:
        """Returns the collator for an epoch of training."""
        return replace(self, drawn_from=(TRAINED, seed, epoch))

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        return self.padding([self._masked(example) for example in examples])

    def _masked(self, example: Mapping[str, Any]) -> dict[str, Any]:
        generator = np.random.default_rng([*self.drawn_from, example["row"]])
        ids = example["input_ids"].copy()
        chosen = self._chosen(ids, generator)
        labels = np.full(len(ids), NO_LABEL)
        labels[chosen] = ids[chosen]
        fate = generator.random(len(chosen))
        ids[chosen[fate < HIDDEN]] = self.mask
        replaced = chosen[(fate >= HIDDEN) & (fate < HIDDEN + REPLACED)]
        ids[replaced] = generator.choice(self.replacements, len(replaced))
        return {**example, "input_ids": ids, "labels": labels}

    def _chosen(self, ids: Integers, generator: np.random.Generator) -> Integers:
        places = np.flatnonzero(self.maskable[ids])
        count = max(1, round(self.share * len(places)))
        if self.continues is None:
            return generator.permutation(places)[:count]
        # A special token ends a word too: what continues one lies right behind it.
        begins = ~self.continues[ids[places]] | (np.diff(places, prepend=-2) > 1)
        words = np.split(places, np.flatnonzero(begins)[1:])
        order = [words[number] for number in generator.permutation(len(words))]
        needed = int(np.searchsorted(np.cumsum([len(word) for word in order]), count)) + 1
        return np.concatenate(order[:needed])


def maskable(tokenizer: PreTrainedTokenizerBase) -> Flags:
    """Returns which tokens may be masked, shape (vocabulary,): all but the special ones."""
    flags = np.ones(_size(tokenizer), dtype=bool)
    flags[tokenizer.all_special_ids] = False
    return flags


def continuing(tokenizer: PreTrainedTokenizerBase) -> Flags:
    """Returns which tokens belong to the word before, shape (vocabulary,): those that begin with ##, as WordPiece's."""
    flags = np.zeros(_size(tokenizer), dtype=bool)
    flags[[number for token, number in tokenizer.get_vocab().items() if token.startswith(CONTINUES)]] = True
    return flags


def _size(tokenizer: PreTrainedTokenizerBase) -> int:
    return max(tokenizer.get_vocab().values()) + 1
