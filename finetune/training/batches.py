"""Training batches: the same global batches in the same order on any number of processes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

Integers = np.ndarray[Any, np.dtype[np.int64]]

BLOCK_BATCHES = 50


class LengthGroupedBatches(Sampler[list[int]]):
    """Batches of examples of similar length, shuffled, and this process's share of each.

    An epoch is a permutation drawn from (seed, epoch). It is cut into blocks of 50 batches; within a block examples are
    sorted by length and cut into batches; then all batches are shuffled, so that length says nothing about the phase of
    the schedule. The n mod batch_size examples left over are a random draw and form the last, smaller batch.

    Every batch is one update: process r of N takes, as micro-batch m of A, the examples (m·N + r), + A·N, + 2·A·N, … of
    it, so sizes differ by one at most. Where a last batch has fewer than A·N examples some parts would be empty, which
    no micro-batch may be: each of these `is_idle`, and is an example of another part, that mustn't count there.

    `lengths`: shape (n,), tokens per example. Yields lists of row numbers, A per update.
    """

    def __init__(
        self,
        lengths: Integers,
        *,
        batch_size: int,
        seed: int,
        processes: int = 1,
        rank: int = 0,
        accumulation: int = 1,
    ) -> None:
        self._lengths = lengths
        self._batch_size = batch_size
        self._seed = seed
        self._offset = rank
        self._processes = processes
        self._accumulation = accumulation
        self._epoch = 0

    @property
    def updates_per_epoch(self) -> int:
        """Updates in one pass over the data: ⌈n / batch_size⌉."""
        return -(-len(self._lengths) // self._batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Makes `epoch`, counted from 0, the next to be drawn."""
        self._epoch = epoch

    @property
    def drawn_from(self) -> tuple[int, int]:
        """The seed, and the epoch that is drawn, or is the next to be."""
        return self._seed, self._epoch

    def epoch_batches(self, epoch: int) -> list[Integers]:
        """Returns the global batches of `epoch`, in order."""
        generator = np.random.default_rng([self._seed, epoch])
        order = generator.permutation(len(self._lengths))
        whole = len(order) - len(order) % self._batch_size
        batches: list[Integers] = []
        for start in range(0, whole, BLOCK_BATCHES * self._batch_size):
            block = order[start : min(start + BLOCK_BATCHES * self._batch_size, whole)]
            block = block[np.argsort(self._lengths[block], kind="stable")]
            batches += np.split(block, len(block) // self._batch_size)
        batches = [batches[position] for position in generator.permutation(len(batches))]
        return [*batches, order[whole:]] if whole < len(order) else batches

    def fingerprint(self, rows: Integers) -> str:
        """Returns the SHA-256 of the first epoch's batches, which stand for all: each is drawn from (seed, epoch).

        `rows`: shape (n,), the row of the train split that each example is.
        """
        digest = hashlib.sha256()
        for batch in self.epoch_batches(0):
            digest.update(rows[batch].astype("<i8").tobytes() + b"|")
        return digest.hexdigest()

    def is_idle(self, update: int, micro_batch: int) -> bool:
        """Whether this process has nothing of its own in a micro-batch of an update of an epoch, counted from 0."""
        rest = len(self._lengths) % self._batch_size
        is_last = update == self.updates_per_epoch - 1
        return is_last and 0 < rest <= micro_batch * self._processes + self._offset

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.epoch_batches(self._epoch):
            for micro_batch in range(self._accumulation):
                part = part_of(
                    batch,
                    process=self._offset,
                    processes=self._processes,
                    micro_batch=micro_batch,
                    accumulation=self._accumulation,
                )
                yield part.tolist() or batch[:1].tolist()

    def __len__(self) -> int:
        return self.updates_per_epoch * self._accumulation


def part_of(batch: Integers, *, process: int, processes: int, micro_batch: int, accumulation: int) -> Integers:
    """Returns what one process takes of a global batch as one of its micro-batches; empty where there is too little.

    All parts together are the batch, each example in one of them, and their sizes differ by one at most.
    """
    return batch[micro_batch * processes + process :: processes * accumulation]


@runtime_checkable
class RandomCollator(Protocol):
    """A collator that draws by itself: one and the same for an evaluation, and anew in each epoch of training."""

    def __call__(self, examples: Any) -> Any: ...
    def in_epoch(self, seed: int, epoch: int) -> Callable[[Any], Any]:
        """Returns the collator of an epoch, whose draws (seed, epoch) and an example's row decide."""


@dataclass(frozen=True)
class OfEpoch:
    """A collator that is always of the epoch that `batches` are drawn in, as Trainer tells them and no one else.

    In an epoch that it resumes in it makes a loader of its own, with the same sampler and the same collator.
    """

    collator: RandomCollator
    batches: LengthGroupedBatches

    def __call__(self, examples: Any) -> Any:
        return self.collator.in_epoch(*self.batches.drawn_from)(examples)


class TrainingLoader(DataLoader[Any]):
    """A loader over `LengthGroupedBatches` that draws nothing from the global random state.

    `collator`: one that has `in_epoch` is asked for that of each epoch.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        batches: LengthGroupedBatches,
        collator: Callable[[Any], Any],
        *,
        workers: int,
        pin_memory: bool,
    ) -> None:
        super().__init__(
            dataset,
            batch_sampler=batches,
            collate_fn=OfEpoch(collator, batches) if isinstance(collator, RandomCollator) else collator,
            num_workers=workers,
            pin_memory=pin_memory,
            generator=torch.Generator(),
        )
        self._batches = batches

    def set_epoch(self, epoch: int) -> None:
        """Called by Trainer at the start of each epoch."""
        self._batches.set_epoch(epoch)
