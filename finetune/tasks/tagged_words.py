"""Words and a tag for each, as they are read from columns of lists."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from finetune.data import Rows
from finetune.errors import DataError, counted
from finetune.tasks.columns import TEXT
from finetune.tasks.listed_labels import ListedLabels, check_items, items_of
from finetune.tasks.on_demand import OnDemand

if TYPE_CHECKING:
    from finetune.tasks.columns import Integers


@dataclass(frozen=True)
class Words:
    """The words of n rows, end to end, where they were read; `bounds`: n + 1 places where the rows' words begin."""

    items: Rows
    column: str
    bounds: Integers

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @property
    def count(self) -> int:
        """How many words all rows have."""
        return int(self.bounds[-1])

    def of(self, start: int, end: int) -> list[list[str]]:
        """Returns the words of each of the rows from `start` up to `end`."""
        bounds = self.bounds[start : end + 1]
        words: list[str] = self.items.column(self.column)[int(bounds[0]) : int(bounds[-1])]
        places = bounds - bounds[0]
        return [words[first:after] for first, after in pairwise(places)]


@dataclass(frozen=True)
class JoinedWords(OnDemand[str]):
    """The rows of words as texts, joined by spaces."""

    words: Words

    def __len__(self) -> int:
        return len(self.words)

    def between(self, start: int, end: int) -> list[str]:
        return list(map(" ".join, self.words.of(start, end)))


@dataclass(frozen=True)
class TaggedWords:
    """The examples of one split: words, and the number of the tag of each, end to end; `names`: those of the tags."""

    words: Words
    tags: Integers
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.words)

    @property
    def texts(self) -> JoinedWords:
        """The words of each example, joined by spaces."""
        return JoinedWords(self.words)

    def tags_of(self, row: int) -> Integers:
        """Returns the numbers of the tags of an example."""
        return self.tags[self.words.bounds[row] : self.words.bounds[row + 1]]

    def examples_of_each(self) -> dict[str, int]:
        """Returns tag ▶ how many examples have a word of it."""
        owners = np.repeat(np.arange(len(self)), np.diff(self.words.bounds))
        pairs = np.unique(owners * len(self.names) + self.tags)
        counts = np.bincount(pairs % len(self.names), minlength=len(self.names)).tolist()
        return dict(zip(self.names, counts, strict=True))

    def fingerprints(self) -> Integers:
        """Returns a number for the tags of each example, the same for the same tags alone, shape (n,)."""
        digests = (hashlib.sha256(self.tags_of(row).tobytes()).digest()[:8] for row in range(len(self)))
        return np.fromiter((int.from_bytes(digest, signed=True) for digest in digests), np.int64, count=len(self))


def words_of(split: str, rows: Rows, column: str) -> Words:
    """Returns a column of lists of words; raises DataError where one is missing, no text, or a list is empty."""
    items, bounds = items_of(split, rows, column)
    without = np.flatnonzero(np.diff(bounds) == 0)
    where = f'column "{column}" of the {split} split'
    if len(without):
        raise DataError(
            f"{where} has no word in {counted(len(without), 'row')}, the first of them row {without[0] + 1:,}: fill or "
            "remove them"
        )
    if items.kind(column) not in TEXT:
        raise DataError(f"{where} holds lists of {items.kind(column)}, not of words; write them as strings")
    check_items(split, items, column, bounds, also_empty=False)
    return Words(items, column, bounds)


def tags_of(split: str, rows: Rows, column: str, words: Words) -> ListedLabels:
    """Returns a column of lists of tags; raises DataError as `ListedLabels`, and where each word hasn't one."""
    tags = ListedLabels.of_lists(split, rows, column)
    lengths, counts = np.diff(tags.bounds), np.diff(words.bounds)
    unequal = np.flatnonzero(lengths != counts)
    if len(unequal):
        row = unequal[0]
        raise DataError(
            f'row {row + 1:,} of the {split} split has {counts[row]:,} words in "{words.column}" and {lengths[row]:,} '
            f'tags in "{column}" ({counted(len(unequal), "row")} of this kind in all): give each word one tag'
        )
    kind = tags.rows.kind(column)
    if kind not in TEXT and column not in tags.rows.class_names:
        raise DataError(
            f'column "{column}" of the {split} split holds lists of {kind} without the names that they stand for; '
            "write the names of the tags, such as B-PER and O, or a ClassLabel of datasets"
        )
    return tags
