"""Data files by their kind, each as one table, with one message where a file is broken."""

from __future__ import annotations

import json
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.data.large import kept_table
from finetune.data.rows import Rows
from finetune.data.texts import check_quotes, other_kind, read_utf8
from finetune.errors import DataError, counted, did_you_mean_path, listed

if TYPE_CHECKING:
    import pyarrow
    from pyarrow import csv

    from finetune.data.keeping import Keep

MAX_BLOCK = 2**31 - 1
"""The most bytes that arrow parses at once."""
PART_ROWS = 10_000
"""How many rows of a large parquet file are read at a time."""
BUFFER_BYTES = 2**20
DEEPEST = 10
"""The most levels of lists and objects in a cell, which no column that is read has; the time that arrow takes for them
grows with the cube of their number."""


def _read_csv(path: Path) -> pyarrow.Table:
    import pyarrow

    content = read_utf8(path)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else _delimiter_of(content)
    check_quotes(content, delimiter.encode())
    if not content.endswith((b"\n", b"\r")):
        content += b"\n"  # without it, arrow finds no header in a file of nothing else

    table = _parse_csv(content, delimiter, {})
    values = [field.name for field in table.schema if _is_parsed(field.type)]
    if values:
        texts = _parse_csv(content, delimiter, dict.fromkeys(values, pyarrow.string()))
        for number, field in enumerate(table.schema):
            if _is_parsed(field.type) and not _is_written_so(table.column(number), texts.column(number)):
                table = table.set_column(number, field.name, texts.column(number))
    return table


def _delimiter_of(content: bytes) -> str:
    """Returns what separates the cells of a csv: the first of comma, semicolon and tab that its heading has.

    Spreadsheets write semicolons where a comma stands before the decimals.
    """
    heading = content.split(b"\n", 1)[0]
    return next((sign for sign in ",;\t" if sign.encode() in heading), ",")


def _parse_csv(content: bytes, delimiter: str, types: Mapping[str, pyarrow.DataType]) -> pyarrow.Table:
    import pyarrow
    from pyarrow import csv

    ragged: list[csv.InvalidRow] = []

    def refuse(row: csv.InvalidRow) -> str:
        ragged.append(row)
        return "error"

    try:
        return csv.read_csv(
            pyarrow.BufferReader(content),
            # One block: a cell may be of any length. On one thread, errors have row numbers.
            read_options=csv.ReadOptions(use_threads=False, block_size=min(len(content), MAX_BLOCK)),
            parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=refuse),
            convert_options=csv.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=False),
        )
    except pyarrow.ArrowInvalid as error:
        if not ragged:
            raise
        raise ValueError(_why_ragged(ragged[0])) from error


def _why_ragged(row: csv.InvalidRow) -> str:
    cells = f"{counted(row.actual_columns, 'cell')}, not {row.expected_columns}"
    return (
        f"row {row.number:,}, the header being row 1, has {cells}: {row.text[:40]!r}; fill a short row, and put quotes "
        "around a cell that holds a delimiter"
    )


def _is_parsed(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    return any((types.is_integer(kind), types.is_boolean(kind), types.is_temporal(kind)))


def _is_written_so(values: pyarrow.ChunkedArray, texts: pyarrow.ChunkedArray) -> bool:
    """Whether the file has the numbers or truth values as they are written, so that 007, 0x7 or a date stays text."""
    import pyarrow
    from pyarrow import compute, types

    if types.is_temporal(values.type):
        return False
    written = compute.utf8_lower(compute.utf8_trim_whitespace(texts))
    same: bool = values.cast(pyarrow.string()).fill_null("").equals(written)
    return same


def _read_json(path: Path) -> pyarrow.Table:
    import pyarrow

    rows = _json_rows(read_utf8(path).decode())
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise ValueError(f"row {number:,} is {json.dumps(row)[:40]}, not an object")
    columns = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        try:
            name.encode()
            columns[name] = pyarrow.array(values)
        except (pyarrow.ArrowException, OverflowError, UnicodeEncodeError) as error:
            raise ValueError(_why_no_column(name, values, error)) from error
    return pyarrow.table(columns)


def _json_rows(text: str) -> list[Any]:
    try:
        if text.lstrip().startswith("["):
            return list(json.loads(text, object_pairs_hook=_object))
        return list(_values(text))
    except json.JSONDecodeError as error:
        rest = text[error.pos :].strip()
        where = f"at {rest[:20]!r}" if rest else "where the file ends"
        raise ValueError(f"{error.msg}: line {error.lineno} column {error.colno}, {where}") from error
    except RecursionError as error:
        raise ValueError("its values are nested too deeply") from error


def _values(text: str) -> Iterator[Any]:
    """Yields the JSON values of `text`, one after the other, with white space in between."""
    decoder, visible, place = json.JSONDecoder(object_pairs_hook=_object), re.compile(r"\S"), 0
    while found := visible.search(text, place):
        value, place = decoder.raw_decode(text, found.start())
        yield value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        repeated = _repeated(name for name, _ in pairs)[0]
        raise ValueError(f'an object has "{repeated}" more than once: {json.dumps(made)[:60]}')
    return made


def _repeated(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


JSON_TYPES = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}


def _why_no_column(name: str, values: Sequence[Any], error: Exception) -> str:
    if isinstance(error, UnicodeEncodeError):
        return f"{ascii(error.object)[:60]} holds half of a surrogate pair, which is no character; mend or remove it"
    kinds: dict[str, int] = {}
    for row, value in enumerate(values, start=1):
        if value is not None:
            kinds.setdefault(JSON_TYPES[type(value)], row)
    if len(kinds) > 1:
        found = ", ".join(f"{kind} in row {row:,}" for kind, row in kinds.items())
        return f'the values of "{name}" are of several types: {found}'
    return f'the values of "{name}" fit no column: {error}'


def _read_parquet(path: Path) -> pyarrow.Table:
    import pyarrow

    return pyarrow.concat_tables(_parquet_parts(path, rows=None))


def _parquet_parts(path: Path, *, rows: int | None = PART_ROWS) -> Iterator[pyarrow.Table]:
    """Yields the rows of a parquet file in order, so many at a time, or all of them; at least one table."""
    import pyarrow

    for table in _checked_parts(path, rows):
        fields = [field.with_type(_plain(field.type)) for field in table.schema]
        plain = pyarrow.schema(fields, metadata=table.schema.metadata)
        yield table if plain == table.schema else table.cast(plain)


def _checked_parts(path: Path, rows: int | None) -> Iterator[pyarrow.Table]:
    import pyarrow
    from pyarrow import parquet

    with path.open("rb") as file:
        start = file.read(32)
        if not start.startswith(b"PAR1"):
            raise ValueError(f"it is {other_kind(start) or 'no parquet file'}")
        try:
            if rows is None or not (whole := parquet.ParquetFile(file)).metadata.num_rows:
                table = parquet.ParquetFile(file).read()
                table.validate(full=True)
                yield table
                return
            # By default the pages of a group of rows, which may be all there are, stay in memory until it is read.
            whole = parquet.ParquetFile(file, metadata=whole.metadata, pre_buffer=False, buffer_size=BUFFER_BYTES)
            for batch in whole.iter_batches(batch_size=rows):
                table = pyarrow.Table.from_batches([batch])
                table.validate(full=True)
                yield table
        except (pyarrow.ArrowException, OSError) as error:
            raise ValueError(f"it is damaged or cut short: {error}") from error


def _plain(kind: pyarrow.DataType) -> pyarrow.DataType:
    """Returns the type without its encoding: what pandas writes for a categorical or a text column."""
    from pyarrow import string, types

    if types.is_dictionary(kind):
        return _plain(kind.value_type)
    return string() if types.is_large_string(kind) or types.is_string_view(kind) else kind


def _is_deeper(kind: pyarrow.DataType, levels: int) -> bool:
    """Whether lists and objects lie within each other on more than so many levels."""
    children = (kind.field(number).type for number in range(kind.num_fields))
    return any(levels == 0 or _is_deeper(child, levels - 1) for child in children)


READERS: dict[str, Callable[[Path], pyarrow.Table]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".json": _read_json,
    ".jsonl": _read_json,
    ".parquet": _read_parquet,
}


def read_file(path: Path, *, keep: Keep | None = None) -> Rows:
    """Returns the rows of one csv, tsv, json (a list of objects), jsonl or parquet file.

    Every text stays text: in a csv "NA" and "None" are words, not nulls, and 007 is no number. With `keep` the rows are
    in a file that is mapped; to make it takes memory for a part of a parquet file, but for the whole of another kind,
    where any cell may decide what a column is. Raises DataError where there is no such file, its kind is unknown, it
    can't be parsed, or what it says is ambiguous.
    """
    import pyarrow

    try:
        _check_path(path)
        suffix = path.suffix.lower()
        read = READERS[suffix]
        by_parts = _parquet_parts if suffix == ".parquet" else lambda path: [read(path)]
        table = None if keep is None else kept_table(path, read=by_parts, keep=keep)
        if table is None:
            table = read(path)
        if repeated := _repeated(table.column_names):
            raise DataError(f"{path}: column names are repeated: {listed(sorted(repeated))}")
        if deep := [field.name for field in table.schema if _is_deeper(field.type, DEEPEST)]:
            raise DataError(f"{path}: nested more than {DEEPEST} levels deep: {listed(deep)}; flatten or remove it")
        return Rows.of_table(table)
    except (pyarrow.ArrowException, ValueError, TypeError, KeyError, OSError) as error:
        raise DataError(f"{path}: can't be read as {path.suffix[1:]}: {first_line(error)}") from error


def _check_path(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        link = (
            f"is a link to {path.readlink()}, which isn't there"
            if path.is_symlink()
            else f"no such file{did_you_mean_path(path)}"
        )
        raise DataError(f"{path}: {link}") from error
    if stat.S_ISDIR(mode):
        raise DataError(f"{path}: is a directory, not a file")
    if not stat.S_ISREG(mode):
        raise DataError(f"{path}: is a pipe or a device; write what it gives to a file")
    if path.suffix.lower() not in READERS:
        raise DataError(f"{path}: a data file must end in {', '.join(READERS)}")


def first_line(error: Exception) -> str:
    """Returns the first 200 characters of the first line of what a library says."""
    text = (getattr(error, "strerror", None) or str(error)).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
