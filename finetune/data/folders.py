"""Folders of images, one to a split, each with a sub-folder for every class."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from finetune.data.rows import Rows
from finetune.errors import DataError

IMAGE, LABEL = "image", "label"
"""The columns of the rows."""


def load_folders(folders: Mapping[Any, Path]) -> dict[str, Rows]:
    """Returns split ▶ a row for each file: its name, as `Rows.beside` has it, and the sub-folder that it is in.

    Files are in the order of their names, sub-folder by sub-folder, those in folders within it included; hidden ones
    are passed over. Raises DataError where a split has no folder, no sub-folder or no file, a file lies beside the
    sub-folders, where it is of no class, or a name is no text.
    """
    return {split: _load_folder(split, folder) for split, folder in folders.items()}


def _load_folder(split: str, folder: Path) -> Rows:
    import pyarrow

    names: dict[str, list[str]] = {IMAGE: [], LABEL: []}
    for label in _classes(split, folder):
        for name in _files(folder, folder / label):
            names[IMAGE].append(name)
            names[LABEL].append(label)
    if not names[IMAGE]:
        raise DataError(f"{folder}: no file in its sub-folders: the {split} split is empty")
    try:
        table = pyarrow.table({column: pyarrow.array(texts, pyarrow.string()) for column, texts in names.items()})
    except UnicodeEncodeError as error:
        raise DataError(f"{folder}: the name {error.object!a} is no text; rename it") from error
    return Rows.of_table(table).beside(IMAGE, folder)


def _classes(split: str, folder: Path) -> list[str]:
    """Returns the names of the sub-folders, in order."""
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "no such folder"
        raise DataError(f"{folder}: {what} (data.folders.{split})")
    classes = []
    for entry in _entries(folder):
        if not entry.is_dir():
            raise DataError(
                f"{entry}: lies beside the sub-folders of the {split} split, so it is of no class: move it into one of "
                "them, or out of the folder"
            )
        classes.append(entry.name)
    if not classes:
        raise DataError(f"{folder}: has no sub-folder; the {split} split needs one for each class, with its images")
    return classes


def _files(root: Path, folder: Path) -> Iterator[str]:
    """Yields the names, seen from `root`, of all files in a folder and the folders within it."""
    for entry in _entries(folder):
        if entry.is_dir() and not entry.is_symlink():
            yield from _files(root, entry)
        else:
            yield entry.relative_to(root).as_posix()


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: can't be read: {os.strerror(error.errno or 0)}") from error
