"""Rows that a model is asked about: of files, or of what is piped in."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from finetune.data import READERS, Rows, load_files
from finetune.errors import DataError, SettingError
from finetune.tasks.columns import GIVEN
from finetune.training.cache import Cache

PIPED = "-"
"""What stands for standard input in place of a file."""


@contextmanager
def given_rows(
    files: Sequence[str], *, piped_format: str = "jsonl", naming_files: Sequence[str] = ()
) -> Iterator[Rows]:
    """Yields the rows of all `files`, one after the other; of large files they are on disk, and only meanwhile.

    `piped_format`: the kind of what is piped in, as a file's suffix, where "-" is the only file; `naming_files`: as
    `load_files` has it, names that are piped in being seen from the working directory. Raises DataError as
    `load_files` does, and SettingError for "-" among others and for an unknown kind.
    """
    if PIPED in files and len(files) > 1:
        raise SettingError("FILE", f"{PIPED}, what is piped in, can't be read along with files")
    suffix = f".{piped_format}"
    if suffix not in READERS:
        raise SettingError("--format", f'"{piped_format}" is not one of {", ".join(kind[1:] for kind in READERS)}')
    with tempfile.TemporaryDirectory(prefix="finetune-") as folder:
        aside = Path(folder)
        paths = [_piped(aside / f"piped{suffix}")] if PIPED in files else [Path(file) for file in files]
        try:
            naming = () if PIPED in files else naming_files
            yield load_files({GIVEN: paths}, keep=Cache(aside).keep, naming_files=naming)[GIVEN]
        except DataError as error:
            raise DataError(_as_given(str(error), files, piped=aside / f"piped{suffix}")) from error


def _as_given(message: str, files: Sequence[str], *, piped: Path) -> str:
    """Returns a message about a split in words of the files that it came of."""
    named = "standard input" if PIPED in files else ", ".join(files)
    unread = f"can't be read as {piped.suffix[1:]}"
    words = {
        f": the {GIVEN} split is empty": "",
        f" of one split ({GIVEN})": "",
        f"the {GIVEN} split": named,
        f"{piped}: {unread}": f"standard input: {unread} (see --format)",
        str(piped): "standard input",
    }
    for inside, shown in words.items():
        message = message.replace(inside, shown)
    return message


def _piped(path: Path) -> Path:
    with path.open("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    return path
