"""Splits of examples, from local files or from the Hub, each as one `Rows`, and their fingerprints."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finetune.data.files import READERS, first_line, read_file
from finetune.data.folders import load_folders
from finetune.data.hub_access import reaching_the_hub, why_out_of_reach
from finetune.data.keeping import Keep
from finetune.data.rows import CHUNK, Column, Rows, joined
from finetune.errors import DataError, did_you_mean, listed

__all__ = [
    "CHUNK",
    "READERS",
    "Column",
    "Keep",
    "Rows",
    "fingerprint",
    "load_files",
    "load_folders",
    "load_hub",
    "read_file",
]

LARGE = 2**25
"""From how many bytes on the files of a split aren't held in memory: so many take a second to read."""


def load_files(
    files: Mapping[Any, Sequence[Path]], *, keep: Keep | None = None, naming_files: Sequence[str] = ()
) -> dict[str, Rows]:
    """Returns split ▶ rows of its files, one after the other.

    With `keep` the rows of a large split stay on disk. `naming_files`: the columns that name other files, seen from
    the folder of the file that they are in; they become what `Rows.beside` makes of them. Raises DataError as
    `read_file` does, where the files of a split differ in their columns or in a column's type, and where they have no
    rows.
    """
    splits = {}
    for split, paths in files.items():
        is_large = sum(path.stat().st_size for path in paths if path.is_file()) >= LARGE
        parts = [read_file(path, keep=keep if is_large else None) for path in paths]
        parts = [_beside(part, path.parent, naming_files) for path, part in zip(paths, parts, strict=True)]
        columns = parts[0].columns
        for path, part in zip(paths, parts, strict=True):
            if set(part.columns) != set(columns):
                raise DataError(
                    f"{path}: its columns are {listed(part.columns)}; those of {paths[0]} are "
                    f"{listed(columns)}: the files of one split ({split}) must agree"
                )
        names = ", ".join(map(str, paths))
        try:
            splits[split] = joined(parts)
        except ValueError as error:
            raise DataError(f"{names}: the files of the {split} split differ in type: {first_line(error)}") from error
        if len(splits[split]) == 0:
            raise DataError(f"{names}: no rows: the {split} split is empty")
    return splits


def _beside(rows: Rows, folder: Path, columns: Sequence[str]) -> Rows:
    for column in columns:
        rows = rows.beside(column, folder) if column in rows.columns else rows
    return rows


def load_hub(
    repository: str, *, configuration: str | None, revision: str | None, splits: Mapping[Any, str]
) -> dict[str, Rows]:
    """Returns split ▶ rows of a data set on the Hub or in its local cache; `splits` maps our names to the data set's.

    Raises DataError where it can't be had; without a connection, or with HF_HUB_OFFLINE=1, only what the cache holds
    can be.
    """
    import datasets

    with reaching_the_hub():
        try:
            available = datasets.load_dataset(repository, configuration, revision=revision)
        except Exception as error:
            raise DataError(f"{repository}: {_why_not_from_hub(error)}") from error
    loaded = {}
    for ours, theirs in splits.items():
        if theirs not in available:
            choices = list(available)
            raise DataError(
                f'{repository}: there is no split "{theirs}" (data.splits.{ours}); '
                f"there are {', '.join(choices)}{did_you_mean(theirs, choices)}"
            )
        loaded[ours] = Rows.of_dataset(available[theirs])
    return loaded


def _why_not_from_hub(error: Exception) -> str:
    if why := why_out_of_reach():
        return (
            f"not in the local cache, and {why}, fill the cache on a machine with a connection, or give local data "
            f"under data.files ({first_line(error)})"
        )
    return f"can't be loaded from the Hub: {first_line(error)}"


def fingerprint(rows: Rows, columns: Sequence[str]) -> str:
    """Returns the SHA-256 of the rows in these columns, in order: equal for equal content, in whatever file."""
    digest = hashlib.sha256()
    for batch in rows.batches(columns, size=1000):
        digest.update(json.dumps(batch, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
