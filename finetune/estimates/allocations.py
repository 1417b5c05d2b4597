"""What is allocated and freed on torch's meta device, call by call: tensors there have a size and no content."""

from __future__ import annotations

import weakref
from collections.abc import Collection, Iterable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

BLOCK = 512
"""Bytes that the allocator of a GPU rounds up to."""

Series = np.ndarray[Any, np.dtype[np.int64]]


def tensors_in(value: Any) -> Iterable[torch.Tensor]:
    """Yields the tensors in what a function of torch takes or returns."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from tensors_in(each)


def size_of(tensors: Iterable[torch.Tensor]) -> int:
    """Returns the bytes that `tensors` on the meta device would take, each storage counted once."""
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage() for tensor in tensors if tensor.is_meta}
    return sum(_rounded(storage.nbytes()) for storage in storages.values())


class Allocations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the size of every storage that is made on the meta device, and when it is made and freed.

    Time is counted in calls of torch's operators, those of the backward pass included. The storages of `known` tensors
    aren't counted. An allocation is known by its number.
    """

    def __init__(self, known: Iterable[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._numbers: dict[int, int | None] = {tensor.untyped_storage()._cdata: None for tensor in known}
        self._watched: dict[int, weakref.ref[Any]] = {}
        self._sizes: list[int] = []
        self._made: list[int] = []
        self._freed: list[int | None] = []
        self.now = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Calls the operator, and notes what it returns that wasn't there."""
        returned = func(*args, **(kwargs or {}))
        self.now += 1
        self.note(tensors_in(returned))
        return returned

    def note(self, tensors: Iterable[torch.Tensor]) -> None:
        """Counts the storages of `tensors` from now on."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key = storage._cdata
            if not tensor.is_meta or key in self._numbers:
                continue
            number = len(self._sizes)
            self._numbers[key] = number
            self._sizes.append(_rounded(storage.nbytes()))
            self._made.append(self.now)
            self._freed.append(None)
            self._watched[number] = weakref.ref(storage, partial(self._free, key, number))

    def _free(self, key: int, number: int, _: Any) -> None:
        self._freed[number] = self.now + 1
        del self._numbers[key], self._watched[number]

    def numbers(self, tensors: Iterable[torch.Tensor]) -> set[int]:
        """Returns the numbers of the allocations that `tensors` lie in now."""
        found = (self._numbers.get(tensor.untyped_storage()._cdata) for tensor in tensors)
        return {number for number in found if number is not None}

    def live(self, *, only: Collection[int] | None = None) -> Series:
        """Returns how many bytes were allocated at each time, 0 … now; `only`: of these allocations."""
        changes = np.zeros(self.now + 2, dtype=np.int64)
        chosen = range(len(self._sizes)) if only is None else only
        for number in chosen:
            changes[self._made[number]] += self._sizes[number]
            freed = self._freed[number]
            if freed is not None:
                changes[freed] -= self._sizes[number]
        return np.cumsum(changes)[:-1]


def _rounded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
