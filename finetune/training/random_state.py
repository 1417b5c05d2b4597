"""The state of every random generator that training draws from."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def seed_of_process(seed: int, rank: int, *, begun_at: int = 0) -> int:
    """Returns the seed of what a process of a run draws by itself: dropout must differ between processes.

    `begun_at`: the update after which it came to the run, as one of more than there were before.
    """
    path = [seed, rank, begun_at] if begun_at else [seed, rank]
    return int(np.random.SeedSequence(path).generate_state(1)[0])


def random_state() -> dict[str, Any]:
    """Returns the state of the global generators of Python, NumPy, torch and the GPU in use."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),  # noqa: NPY002 - it is the global one that is kept
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Sets the generators to what `random_state` returned; one that was on another kind of device is left as it is."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    torch.set_rng_state(state["cpu"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


@contextmanager
def preserved_random_state() -> Iterator[None]:
    """Restores the generators, whatever is drawn inside.

    Every iterator over a DataLoader draws from torch's, so that an evaluation would otherwise change what is trained.
    """
    state = random_state()
    try:
        yield
    finally:
        set_random_state(state)
