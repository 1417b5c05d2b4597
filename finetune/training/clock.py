"""Wall-clock time of training proper, with evaluations and checkpoints set apart."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class TrainingClock:
    """Counts the seconds since `start`, less those inside `paused`."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._before = 0.0
        self.paused_seconds = 0.0
        self.scheduling_seconds = 0.0

    def start(self, *, seconds: float = 0.0) -> None:
        """Sets the clock to `seconds` and lets it run."""
        self._started, self._before, self.paused_seconds = time.perf_counter(), seconds, 0.0

    @property
    def seconds(self) -> float:
        """Seconds of training so far."""
        return self._before + time.perf_counter() - self._started - self.paused_seconds

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stops the clock meanwhile."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.paused_seconds += time.perf_counter() - began

    @contextmanager
    def scheduling(self) -> Iterator[None]:
        """Adds what passes meanwhile to `scheduling_seconds`."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.scheduling_seconds += time.perf_counter() - began
