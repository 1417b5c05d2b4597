"""How a command loads its libraries."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Spares what is made meanwhile, and all that there is, the walks of the garbage collector: now and later.

    Libraries make objects by the million, none of which is ever garbage.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
