"""Stopping in good order: on a signal to any process of a run, or when what started it is gone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import psutil

LAUNCHERS = ("accelerate", "torchrun", "torch.distributed", "deepspeed", "finetune launch")
HEARD = tuple(signal.Signals[name] for name in ("SIGTERM", "SIGINT", "SIGUSR1") if name in signal.Signals.__members__)


class CalledOffError(Exception):
    """An evaluation that was broken off, on all processes in the same batch, because the run is to stop."""


class StopRequest:
    """Why this process is to stop, if it is: a SIGTERM, a Ctrl-C, or the end of the launcher or pool it belongs to.

    Also a SIGUSR1, which is what Slurm hands on from srun to its tasks, while a SIGTERM to srun ends them at once. A
    second Ctrl-C raises KeyboardInterrupt at once. Signals are heard inside `listening`, in the main thread.
    """

    def __init__(self) -> None:
        self._signal: str | None = None
        self._parent = _parent_to_outlive()

    @property
    def reason(self) -> str | None:
        """The reason in a few words; None while there is none."""
        if self._signal is None and self._parent is not None and os.getppid() != self._parent:
            self._signal = "the end of the process that started it"
        return self._signal

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Takes notice of signals meanwhile."""
        before = self.listen()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def listen(self) -> dict[signal.Signals, Any]:
        """Takes notice of signals from here on; returns what took notice of each before."""
        if threading.current_thread() is not threading.main_thread():
            return {}
        return {number: signal.signal(number, self._hear) for number in HEARD}

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._signal is not None:
            raise KeyboardInterrupt
        self._signal = signal.Signals(number).name


def _parent_to_outlive() -> int | None:
    """Returns the process whose end leaves this one without a purpose: a launcher, or a study that shares its runs out.

    A shell is none: what it started in the background may outlive it.
    """
    parent = os.getppid()
    if multiprocessing.parent_process() is not None:
        return parent
    try:
        command = " ".join(psutil.Process(parent).cmdline()[:4])
    except psutil.Error:
        return None
    return parent if any(name in command for name in LAUNCHERS) else None
