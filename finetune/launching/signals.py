"""Signals to the launcher, passed on to the processes of the run, so that they stop in good order."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import psutil

from finetune.errors import RunStopped
from finetune.training.stopping import HEARD


class PassedOn:
    """Hears, inside `hearing`, that the run is to stop, and has its processes told by one SIGTERM.

    Whatever comes after the first signal is left to be, as processes are saving a checkpoint, but for a Ctrl-C, which
    they are told of too: a second one stops them at once. `reason`: the first signal's name; None while there is none.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self._ending: Any = None

    def end_by(self, exception: Any) -> None:
        """Ends torch's agent, where it has processes, by this exception of its own: it then ends them by a SIGTERM."""
        self._ending = exception

    @contextmanager
    def hearing(self) -> Iterator[None]:
        """Hears signals meanwhile."""
        before = {number: signal.signal(number, self._hear) for number in HEARD}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        processes = psutil.Process().children()
        if self.reason is not None:
            if number == signal.SIGINT:
                _tell(processes, signal.SIGINT)
            return
        self.reason = signal.Signals(number).name
        if not processes:
            raise RunStopped(self.reason)
        if any(_is_under_agent(process) for process in processes):
            raise self._ending(f"{self.reason} to the launcher", sigval=signal.SIGTERM)
        _tell(processes, signal.SIGTERM)


def _is_under_agent(process: psutil.Process) -> bool:
    try:
        return "TORCHELASTIC_RUN_ID" in process.environ()
    except psutil.Error:
        return False


def _tell(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue
