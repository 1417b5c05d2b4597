"""One run at a time in a directory, by a lock that the operating system takes back from a process that dies."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from finetune.errors import RecordError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".running"


@contextmanager
def held(run: Path) -> Iterator[None]:
    """Holds the directory `run` meanwhile; raises RecordError where another process, of any machine, is at work in it.

    Where the file system has no locks, nothing is excluded.
    """
    file = None if fcntl is None else _locked(run / LOCK)
    try:
        yield
    finally:
        if file is not None:
            with suppress(OSError):  # where the disk is gone, that is told already
                (run / LOCK).unlink(missing_ok=True)  # while it is locked, so that no other is in between
            with suppress(OSError):
                file.close()


def is_held(run: Path) -> bool:
    """Returns whether another process is at work in `run`, as far as can be told."""
    if fcntl is None or not (run / LOCK).exists():
        return False
    try:
        with (run / LOCK).open("r+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _locked(path: Path) -> IO[str] | None:
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            other = file.read().strip() or "another process"
            file.close()
            raise RecordError(
                f"{path.parent}: {other} is at work in it; let it end, or give the recipe another output"
            ) from error
        except OSError:
            return file
        if _is(path, file):
            break
        file.close()  # the one before went, and took its file along
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    return file


def _is(path: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
