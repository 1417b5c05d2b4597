"""A folder that keeps what is costly to make of data, for all runs: whole entries, found by what decides them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from finetune.training.whole_folders import fault_of, seal

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

VARIABLE = "FINETUNE_CACHE"
NAME = "finetune-schedules"
ASIDE = ".aside-"
ABANDONED_SECONDS = 7 * 86_400
"""How old a folder is that nobody will rename into place any more."""

Made = TypeVar("Made")


def cache_folder() -> Path | None:
    """Returns the folder that FINETUNE_CACHE names, None if that is empty; else one in XDG_CACHE_HOME or ~/.cache."""
    named = os.environ.get(VARIABLE)
    if named is not None:
        return Path(named).expanduser().absolute() if named else None
    shared = os.environ.get("XDG_CACHE_HOME", "")
    try:
        return (Path(shared) if Path(shared).is_absolute() else Path.home() / ".cache") / NAME
    except RuntimeError:  # there is no home
        return None


class Cache:
    """Entries in folder/KIND/KEY. `fault`: the first reason why one couldn't be kept, in words.

    Each is made beside its place and renamed into it, with the sizes and hashes of its files, so that a kill, a full
    disk or another process leaves a whole one or none; a damaged one is made anew. Of processes that need the same one
    at once the first makes it and the others wait, where the file system has locks. Nothing is ever removed: a run of
    another machine may have it mapped.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.fault: str | None = None

    def keep(
        self, kind: str, key: Mapping[str, Any], *, make: Callable[[Path], object], read: Callable[[Path], Made]
    ) -> Made | None:
        """As `finetune.data.Keep` says."""
        if self.folder is None:
            return None
        entry = self.folder / kind / hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
        try:
            if fault_of(entry) is not None:
                entry.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with _turn(entry):
                    if fault_of(entry) is not None:
                        _make(entry, make, key)
            return read(entry)
        except OSError as error:
            self.fault = self.fault or f"{self.folder}: {error.strerror or error}"
            return None


@contextmanager
def _turn(entry: Path) -> Iterator[None]:
    """Waits while another process makes the same entry."""
    if fcntl is None:
        yield
        return
    with entry.with_name(f".{entry.name}.lock").open("a", encoding="utf-8") as file:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(entry: Path, make: Callable[[Path], object], key: Mapping[str, Any]) -> None:
    _remove_abandoned(entry.parent)
    aside = _aside(entry.parent)
    try:
        make(aside)
        seal(aside, facts=key)
        if fault_of(entry) is not None:  # else another process was first
            if entry.exists():
                _remove(entry)
            aside.rename(entry)
    except OSError:
        if fault_of(entry) is not None:
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _remove(entry: Path) -> None:
    doomed = _aside(entry.parent)
    entry.rename(doomed / entry.name)
    shutil.rmtree(doomed, ignore_errors=True)


def _aside(folder: Path) -> Path:
    return Path(tempfile.mkdtemp(prefix=ASIDE, dir=folder))


def _remove_abandoned(folder: Path) -> None:
    for aside in folder.glob(f"{ASIDE}*"):
        with suppress(OSError):
            if time.time() - aside.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(aside, ignore_errors=True)
