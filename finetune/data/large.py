"""Files too large to be held in memory: read once, a batch at a time, into an arrow file that is mapped."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from finetune.data.keeping import Keep

if TYPE_CHECKING:
    import pyarrow

FORMAT = 1
KIND = "tables"
ROWS = "rows.arrow"
BATCH = 10_000


def kept_table(path: Path, *, read: Callable[[Path], Iterable[pyarrow.Table]], keep: Keep) -> pyarrow.Table | None:
    """Returns the rows of a file as a mapped table: those of the tables that `read(path)` gives, one at least.

    It is read unless `keep` has it already, by its kind and its content. Returns None where nothing can be kept. Raises
    what `read` raises, and ValueError where the file changes meanwhile.
    """
    import pyarrow

    before = _state(path)
    with path.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()

    def make(folder: Path) -> None:
        tables = iter(read(path))
        first = next(tables)
        with pyarrow.OSFile(str(folder / ROWS), "wb") as sink, pyarrow.ipc.new_file(sink, first.schema) as writer:
            for table in chain([first], tables):
                writer.write_table(table, max_chunksize=BATCH)
        if _state(path) != before:
            raise ValueError("it changed while it was read")

    key = {"format": FORMAT, "content": content, "kind": path.suffix.lower(), "pyarrow": pyarrow.__version__}
    return keep(KIND, key, make=make, read=_mapped)


def _state(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns


def _mapped(folder: Path) -> pyarrow.Table:
    import pyarrow

    return pyarrow.ipc.open_file(pyarrow.memory_map(str(folder / ROWS))).read_all()
