"""The processes of a run tell each other, before it begins, what they are about to do, or why they can't.

By keys in the store that a launcher's processes find each other through: no collective, which one process alone could
hang in. The first process compares what all have stated and says what comes of it, so that N processes ask 2·N times.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cache
from itertools import count, islice
from typing import Any, Protocol

from finetune.errors import DeviceError, FinetuneError, RunError, listed
from finetune.keys import differences, flatten

Statement = Mapping[str, Any]
"""What a process is about to do: name ▶ a plain value, or nested names."""

PATIENCE = 300.0
"""Seconds that the others are waited for where all have little to do."""
LONG_PATIENCE = 1800.0
"""Seconds where each may have to read and tokenise all data first; torch's own limit on collectives."""
_GRACE = 15.0
_MOST_SHOWN = 5


class Store(Protocol):
    """What is used of torch's stores."""

    def set(self, key: str, value: str, /) -> None: ...
    def get(self, key: str, /) -> bytes: ...
    def wait(self, keys: list[str], timeout: timedelta, /) -> None: ...


class Meeting:
    """One run's, or trunk's, on one of its processes; each makes one, and calls the same methods in the same order.

    Alone (`store` None) all agree. `holds_store`: whether the store ends with the first process, which then has to wait
    until the others know why it ends. `seconds`: in place of the limits of the calls.
    """

    def __init__(
        self,
        store: Store | None,
        *,
        rank: int,
        processes: int,
        name: str = "0",
        holds_store: bool = False,
        seconds: float | None = None,
    ) -> None:
        self._store = store
        self._rank = rank
        self._processes = processes
        self._name = name
        self._holds_store = holds_store
        self._seconds = seconds
        self._calls = 0

    @contextmanager
    def open(self) -> Iterator[Meeting]:
        """Has what is raised meanwhile by one process alone raised by the first, which speaks, and ends the others."""
        try:
            yield self
        except (DisagreementError, LostProcessError):
            raise
        except Exception as error:
            if self._store is not None:
                self._fail(error)
                if isinstance(error, FinetuneError):
                    error.is_told = True
            raise

    @property
    def is_led_here(self) -> bool:
        """Whether there are several processes, and this is the first."""
        return self._store is not None and self._rank == 0

    def agree(self, state: Callable[[], Statement], *, seconds: float = PATIENCE) -> None:
        """Returns when all processes have stated the same by `state`, which isn't called where there is but one.

        Raises DisagreementError, with what differs, on all of them where they haven't, or where one has failed; and
        LostProcessError where one doesn't come within `seconds`.
        """
        if self._store is None:
            return
        self._calls += 1
        self._put(self._rank, {"host": socket.gethostname(), "statement": state()})
        if self._rank == 0:
            try:
                fault = self._judge(seconds)
            except LostProcessError as error:
                self._announce(str(error))
                raise
            self._announce(fault)
        else:
            fault = self._verdict(seconds)
        if fault is not None:
            raise DisagreementError(fault)

    def see(self, write: Callable[[str], object], read: Callable[[], str | None], *, seconds: float = 60.0) -> bool:
        """Returns whether what the first process wrote by `write` is what `read` gives here, within `seconds`.

        A network file system may show a new file a while later.
        """
        if self._store is None:
            return True
        self._calls += 1
        if self._rank == 0:
            token = f"{socket.gethostname()}-{os.getpid()}-{time.time_ns()}"
            write(token)
            self._put("token", {"token": token})
            return True
        token = self._take("token", self._patience(PATIENCE), of=0)["token"]
        deadline = time.monotonic() + (seconds if self._seconds is None else self._seconds / 2)
        while read() != token:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        return True

    def _fail(self, error: Exception) -> None:
        """Tells the others; returns when the first knows, lest the launcher ends it before it could speak."""
        self._calls += 1
        kind = "" if isinstance(error, FinetuneError) else f"{type(error).__name__}: "
        if self._rank == 0:
            self._announce(f"process 0 failed: {kind}{error}")
            return
        self._put(self._rank, {"host": socket.gethostname(), "error": f"{kind}{error}"})
        try:
            self._verdict(LONG_PATIENCE)
        except LostProcessError:
            return

    def _judge(self, seconds: float) -> str | None:
        """Returns what is wrong with what all have stated, in words; None where nothing is."""
        deadline = time.monotonic() + self._patience(seconds)
        said = {}
        for rank in range(self._processes):
            said[rank] = self._take(str(rank), max(0.1, deadline - time.monotonic()), of=rank)
            if "error" in said[rank]:
                return f"process {rank} of {self._processes}, on {said[rank]['host']}: {said[rank]['error']}"
        return disagreement(
            {rank: each["statement"] for rank, each in said.items()}, {r: each["host"] for r, each in said.items()}
        )

    def _verdict(self, seconds: float) -> str | None:
        fault: str | None = self._take("verdict", self._patience(seconds) + _GRACE, of=0)["fault"]
        if fault is not None and self._holds_store:
            self._put(f"heard by {self._rank}", {})
        return fault

    def _announce(self, fault: str | None) -> None:
        self._put("verdict", {"fault": fault})
        if fault is not None and self._holds_store:
            deadline = time.monotonic() + _GRACE
            with suppress(LostProcessError):
                for rank in range(1, self._processes):
                    self._take(f"heard by {rank}", max(0.1, deadline - time.monotonic()), of=rank)

    def _patience(self, seconds: float) -> float:
        return seconds if self._seconds is None else self._seconds

    def _key(self, what: object) -> str:
        return f"finetune/{self._name}/{self._calls}/{what}"

    def _put(self, what: object, value: Mapping[str, Any]) -> None:
        assert self._store is not None  # noqa: S101
        try:
            self._store.set(self._key(what), json.dumps(value, default=str))
        except RuntimeError as error:
            raise _lost(error) from error

    def _take(self, what: str, seconds: float, *, of: int) -> dict[str, Any]:
        assert self._store is not None  # noqa: S101
        try:
            self._store.wait([self._key(what)], timedelta(seconds=seconds))
            taken: dict[str, Any] = json.loads(self._store.get(self._key(what)))
        except RuntimeError as error:  # torch's DistStoreError is one
            if "timeout" not in str(error).casefold():
                raise _lost(error) from error
            raise LostProcessError(
                f"process {of} of {self._processes} said nothing for {seconds:.0f} seconds; see what it printed, if "
                "anything, and whether every machine was started with the same number of processes and first address"
            ) from error
        return taken


class DisagreementError(DeviceError):
    """Processes of one run that aren't about to do the same, or of which one can't."""

    is_told = True


class LostProcessError(RunError):
    """A process that doesn't come to a meeting, or is gone from it."""

    is_told = True


def _lost(error: Exception) -> LostProcessError:
    return LostProcessError(
        f"the first process can't be reached any more ({str(error).splitlines()[0]}); see what it printed"
    )


def disagreement(statements: Mapping[int, Statement], hosts: Mapping[int, str]) -> str | None:
    """Returns in words where the statements of processes, by rank, differ from that of process 0; None if nowhere."""
    for rank, statement in statements.items():
        differing = differences(flatten(statements[0]), flatten(statement))
        if differing:
            alike = [other for other, each in statements.items() if each == statement]
            rows = [
                f"  {key}: {_shown(first)} on process 0, {_shown(other)} on {_ranks(alike)}"
                for key, (first, other) in islice(differing.items(), _MOST_SHOWN)
            ]
            if len(differing) > _MOST_SHOWN:
                rows.append(f"  and {len(differing) - _MOST_SHOWN} more")
            where = "" if hosts[rank] == hosts[0] else f" ({hosts[0]} and {hosts[rank]})"
            found = "\n".join(rows)
            return (
                f"the processes of this run aren't about to do the same{where}:\n{found}\nGive all of them the same "
                "recipe, settings, data and packages, and start them again"
            )
    return None


def _ranks(ranks: list[int]) -> str:
    return f"process{'es' * (len(ranks) > 1)} {listed([*map(str, ranks)], most=4)}"


def _shown(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


_meetings = count()


def tell_others(error: FinetuneError) -> None:
    """Has what ends this process before it comes to a meeting end the others too, and the first speak of it.

    Nothing where they know of it already, or can't be told.
    """
    if error.is_told or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return
    with suppress(FinetuneError), meeting_of_this_run(seconds=_GRACE).open():
        raise error


def meeting_of_this_run(*, seconds: float = PATIENCE) -> Meeting:
    """Returns the next meeting of the processes that were launched; every one of them has to ask for as many.

    Raises LostProcessError where they can't be reached within `seconds`.
    """
    processes, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    store = _store(rank, seconds) if processes > 1 else None
    # A launcher that starts the processes of one machine again keeps its store, with what the ones before have said.
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    is_one_machine = os.environ.get("LOCAL_WORLD_SIZE") == str(processes)
    name = f"{attempt if is_one_machine else 0}.{next(_meetings)}"
    return Meeting(store, rank=rank, processes=processes, name=name, holds_store=not _is_held_by_launcher())


def _is_held_by_launcher() -> bool:
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


@cache
def _store(rank: int, seconds: float) -> Store:
    """Returns the store of the processes launched, which the launcher holds, or the first process."""
    import torch.distributed

    address, port = (os.environ.get(name) for name in ("MASTER_ADDR", "MASTER_PORT"))
    if not address or not (port or "").isdecimal():
        raise DeviceError(
            "WORLD_SIZE says that several processes were launched, and MASTER_ADDR and MASTER_PORT don't say where "
            "they meet; use accelerate launch or torchrun, or unset WORLD_SIZE for one process"
        )
    try:
        return torch.distributed.TCPStore(  # type: ignore[attr-defined]
            address,
            int(port or 0),
            is_master=rank == 0 and not _is_held_by_launcher(),
            timeout=timedelta(seconds=seconds),
            wait_for_workers=False,
            multi_tenant=True,
        )
    except RuntimeError as error:
        raise LostProcessError(
            f"process {rank} can't reach {address}:{port}, where the processes of this run meet, within {seconds:.0f} "
            f"seconds ({str(error).splitlines()[0]}); check the address of the first machine, and its firewall"
        ) from error
