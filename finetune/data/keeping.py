"""What a cache is to those who make costly things of data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

Made = TypeVar("Made")


class Keep(Protocol):
    """Keeps what is made of data in files from one process to another."""

    def __call__(
        self, kind: str, key: Mapping[str, Any], *, make: Callable[[Path], object], read: Callable[[Path], Made]
    ) -> Made | None:
        """Returns what `read(folder)` finds in a folder that `make(folder)` has filled, now or at any time before.

        `key`: plain values, all that decides the content of the files, of a `kind`. Returns None where nothing can be
        kept; what is asked for must then be made without. Raises what `make` raises, errors of the file system apart.
        """
