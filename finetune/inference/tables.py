"""Tables of predictions on their way to a file or a pipe, a part at a time."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from finetune.errors import DataError, SettingError, listed
from finetune.whole_files import replacing

if TYPE_CHECKING:
    import pyarrow
    from pyarrow import parquet


class TableWriter(Protocol):
    """Takes the parts of a table, which all have the same columns."""

    def write(self, part: pyarrow.Table) -> None: ...


class JsonLines:
    """A JSON object to a row; numbers that aren't finite are null. `ascii_only`: everything else is escaped."""

    def __init__(self, file: TextIO, *, ascii_only: bool = False) -> None:
        self._file = file
        self._ascii_only = ascii_only

    def write(self, part: pyarrow.Table) -> None:
        for row in part.to_pylist():
            line = json.dumps(_plain(row), ensure_ascii=self._ascii_only, default=str, allow_nan=False)
            self._file.write(line + "\n")


class Csv:
    """A header, then a line to a row; lists and objects as JSON, what is missing as nothing."""

    def __init__(self, file: TextIO) -> None:
        self._writer = csv.writer(file, lineterminator="\n")
        self._begun = False

    def write(self, part: pyarrow.Table) -> None:
        if not self._begun:
            self._writer.writerow(part.column_names)
        self._begun = True
        for row in part.to_pylist():
            self._writer.writerow([_cell(value) for value in row.values()])


class Parquet:
    """A group of rows to a part; the types are those of the first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: parquet.ParquetWriter | None = None

    def write(self, part: pyarrow.Table) -> None:
        from pyarrow import parquet

        if self._writer is None:
            self._writer = parquet.ParquetWriter(self._path, part.schema)
        self._writer.write_table(part.cast(self._writer.schema))

    def close(self) -> None:
        """Ends the file, without which it is none."""
        if self._writer is not None:
            self._writer.close()


@contextmanager
def _text_file(path: Path, kind: Callable[[TextIO], TableWriter]) -> Iterator[TableWriter]:
    with path.open("w", encoding="utf-8", newline="") as file:
        yield kind(file)


@contextmanager
def _parquet_file(path: Path) -> Iterator[TableWriter]:
    writer = Parquet(path)
    try:
        yield writer
    finally:
        writer.close()


OUTPUTS = (".csv", ".jsonl", ".parquet")
BINARY = "parquet alone holds binary values: write .parquet, or leave out the data's own columns"


def check_output(path: Path, *, overwrite: bool) -> None:
    """Raises SettingError for a file of another kind, a directory, and, unless `overwrite`, a file that is there."""
    if path.suffix.lower() not in OUTPUTS:
        raise SettingError("--output", f"{path} must end in {', '.join(OUTPUTS)}")
    if path.is_dir():
        raise SettingError("--output", f"{path} is a directory; give a file in it")
    if path.exists() and not overwrite:
        raise SettingError("--output", f"{path} exists; pass --overwrite to replace it, or give another name")


@contextmanager
def table_file(path: Path) -> Iterator[TableWriter]:
    """Yields what writes a table of predictions to `path`, which is there whole, once all is written, or not at all.

    Raises SettingError where the place can't be written.
    """
    try:
        with replacing(path) as aside:
            suffix = path.suffix.lower()
            made = (
                _parquet_file(aside)
                if suffix == ".parquet"
                else _text_file(aside, Csv if suffix == ".csv" else JsonLines)
            )
            with made as writer:
                yield writer
    except OSError as error:
        raise SettingError("--output", f"{path} can't be written: {error.strerror or error}") from error


def beside(kept: pyarrow.Table, predicted: Mapping[str, Any]) -> pyarrow.Table:
    """Returns the data's own columns, then those of predictions; raises DataError for a name that is in both."""
    import pyarrow

    twice = [name for name in predicted if name in kept.column_names]
    if twice:
        raise DataError(
            f"the data has columns that predictions are written to: {listed(twice)}; rename them, or leave out the "
            "data's own columns with --only-predictions"
        )
    table = pyarrow.table(dict(predicted))
    for place, name in enumerate(kept.column_names):
        table = table.add_column(place, name, kept.column(name))
    return table


def check_kept(kept: pyarrow.Table, path: Path | None) -> None:
    """Raises DataError for a column of binary values, such as images, that is to be written as text."""
    if path is not None and path.suffix.lower() == ".parquet":
        return
    binary = [field.name for field in kept.schema if _holds_bytes(field.type)]
    if binary:
        raise DataError(f"columns {listed(binary)} of the data can't be written as text; {BINARY}")


def _holds_bytes(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    if types.is_nested(kind):
        return any(_holds_bytes(kind.field(number).type) for number in range(kind.num_fields))
    return any(check(kind) for check in (types.is_binary, types.is_large_binary, types.is_fixed_size_binary))


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _cell(value: Any) -> Any:
    plain = _plain(value)
    if isinstance(plain, dict | list):
        return json.dumps(plain, ensure_ascii=False, default=str)
    return str(plain).lower() if isinstance(plain, bool) else plain
