"""The largest micro-batch that fits, and how many devices make one fit."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from finetune.estimates.passes import Usage
from finetune.estimates.sharding import Share, Strategy, share_of

MOST_DEVICES = 4096


class Fitting:
    """What fits on devices of `memory` bytes. `measure(examples, accumulated)` is asked once for each.

    `batch_size`: the examples of an update, on all devices together; `half`: as for `share_of`.
    """

    def __init__(self, measure: Callable[[int, bool], Usage], *, memory: int, batch_size: int, half: bool) -> None:
        self._measure = cache(measure)
        self._memory = memory
        self._batch_size = batch_size
        self._half = half

    def share(self, strategy: Strategy, *, devices: int, examples: int) -> Share:
        """Returns what each of `devices` holds with `examples` at a time."""
        accumulated = examples * devices < self._batch_size
        return share_of(self._measure(examples, accumulated), strategy, devices=devices, half=self._half)

    def largest(self, strategy: Strategy, *, devices: int) -> int | None:
        """Returns the most examples at a time that fit, up to a device's share of a batch; None where none does.

        A whole share at a time comes first: several micro-batches have the gradients of those before beside them.
        """

        def fits(examples: int) -> bool:
            return self.share(strategy, devices=devices, examples=examples).fits(self._memory)

        whole = -(-self._batch_size // devices)
        if fits(whole):
            return whole
        return largest(fits, most=whole - 1) if whole > 1 else None

    def devices_needed(self) -> int | None:
        """Returns the least power of 2 of devices that hold one example at a time in shards; None where none do."""
        count = 2
        while count <= min(MOST_DEVICES, self._batch_size):
            whole = -(-self._batch_size // count)
            if any(self.share("fsdp2", devices=count, examples=each).fits(self._memory) for each in (whole, 1)):
                return count
            count *= 2
        return None


def largest(fits: Callable[[int], bool], *, most: int) -> int | None:
    """Returns the largest number from 1 to `most` that fits, as all below it do; None where 1 doesn't."""
    if not fits(1):
        return None
    low, high = 1, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
