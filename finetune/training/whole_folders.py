"""Folders that are whole or not there: written aside, listed in a manifest, flushed to disk and renamed into place."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xxhash
from safetensors import SafetensorError

from finetune.errors import RecordError

MANIFEST = "manifest.json"
FORMAT = 1


def write_whole(folder: Path, write: Callable[[Path], object], *, facts: Mapping[str, Any] | None = None) -> None:
    """Makes `folder` as `replace_folder` does, sealed with `facts`, so that it is known after any crash to be whole."""

    def write_and_seal(aside: Path) -> None:
        write(aside)
        seal(aside, facts=facts)

    replace_folder(folder, write_and_seal)
    with writing(folder):
        flush(folder.parent)


def replace_folder(folder: Path, write: Callable[[Path], object]) -> None:
    """Makes `folder`, in place of what was there, of what `write(aside)` puts into an empty folder beside it.

    If this process dies meanwhile the folder is the old one, the new one or none. Raises RecordError where it can't be
    written, as on a full disk; then the old one is as it was. The folder two above must be there: a run whose disk was
    unmounted must not go on below the place where it was mounted.
    """
    aside, old = folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")
    try:
        with writing(folder):
            for leftover in (aside, old):
                shutil.rmtree(leftover, ignore_errors=True)
            folder.parent.mkdir(exist_ok=True)
            aside.mkdir()
            write(aside)
            if folder.exists():
                folder.rename(old)
            aside.rename(folder)
            shutil.rmtree(old, ignore_errors=True)
    except RecordError:
        shutil.rmtree(aside, ignore_errors=True)
        raise


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Raises RecordError, in words about `place`, where something can't be written meanwhile."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RecordError(f"{place}: can't be written: {reason}; make room or mend the place, then go on") from error


def seal(folder: Path, *, facts: Mapping[str, Any] | None = None) -> None:
    """Flushes every file in `folder`, and writes and flushes a manifest of their sizes and XXH3 hashes."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    with ThreadPoolExecutor() as pool:
        flushed = [pool.submit(flush, path) for path in paths]  # the disk works while this thread hashes
        files = {
            path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "xxh3_128": _hash(path)}
            for path in paths
        }
        for each in flushed:
            each.result()
    manifest = folder / MANIFEST
    content = {"format": FORMAT, "facts": dict(facts or {}), "files": files}
    manifest.write_text(json.dumps({**content, "xxh3_128": _hash_of(content)}), encoding="utf-8")
    flush(manifest)
    flush(folder)


def is_sealed(folder: Path) -> bool:
    """Whether `folder` has a manifest."""
    return (folder / MANIFEST).exists()


def fault_of(folder: Path) -> str | None:
    """Returns what `folder` lacks of the one that was sealed, in words; None if it is whole."""
    try:
        files = _read_manifest(folder)["files"]
        found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()} - {MANIFEST}
        if strange := found - set(files):
            return f"{min(strange)} isn't in its {MANIFEST}"
        for name, expected in files.items():
            path = folder / name
            if name not in found:
                return f"{name} is missing"
            if path.is_symlink():
                return f"{name} is a symbolic link"
            if path.stat().st_size != expected["size"]:
                return f"{name} has {path.stat().st_size:,} bytes in place of {expected['size']:,}"
            if _hash(path) != expected["xxh3_128"]:
                return f"{name} was altered"
    except FileNotFoundError:
        return f"it has no {MANIFEST}: it wasn't written to its end"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"its {MANIFEST} can't be read ({error!r})"
    return None


def facts_of(folder: Path) -> dict[str, Any]:
    """Returns the facts that a whole folder was written with."""
    facts: dict[str, Any] = _read_manifest(folder)["facts"]
    return facts


def _read_manifest(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    if content["format"] != FORMAT:
        raise ValueError(f"format {content['format']} in place of {FORMAT}")
    if content.pop("xxh3_128") != _hash_of(content):
        raise ValueError("it was altered")
    return content


def _hash_of(content: dict[str, Any]) -> str:
    return xxhash.xxh3_128(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _hash(path: Path) -> str:
    """Reads the file rather than mapping it: where a disk fails, a mapped one ends the process without a word."""
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()


def flush(path: Path) -> None:
    """Has the operating system write a file or the entries of a folder to disk; Windows can't flush a folder."""
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
