"""Sequences whose values are made when they are asked for, as all at once may be more than memory holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar, overload

from finetune.data import CHUNK

Made = TypeVar("Made", covariant=True)


class OnDemand(Sequence[Made]):
    """A sequence that makes its values, some at a time. Subclasses give `__len__` and `between`; slices go forward."""

    def between(self, start: int, end: int) -> list[Made]:
        """Returns the values from `start` up to `end`, both from 0 to the length, and not the other way around."""
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int) -> Made: ...
    @overload
    def __getitem__(self, index: slice) -> list[Made]: ...
    def __getitem__(self, index: int | slice) -> Made | list[Made]:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            return self.between(start, max(start, stop))[::step]
        place = range(len(self))[index]
        return self.between(place, place + 1)[0]

    def __iter__(self) -> Iterator[Made]:
        for start in range(0, len(self), CHUNK):
            yield from self[start : start + CHUNK]
