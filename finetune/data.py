"""Splits of examples, from local files or from the Hub, each as one `datasets.Dataset`, and their fingerprints."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import pyarrow
    from datasets import Dataset


def _read_csv(path: Path) -> pyarrow.Table:
    import pyarrow
    from pyarrow import csv

    def read(types: Mapping[str, pyarrow.DataType]) -> pyarrow.Table:
        return csv.read_csv(
            path,
            parse_options=csv.ParseOptions(
                delimiter="\t" if path.suffix.lower() == ".tsv" else ",", newlines_in_values=True
            ),
            convert_options=csv.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=False),
        )

    table = read({})
    for field in table.schema:
        if pyarrow.types.is_binary(field.type):
            raise ValueError(f'column "{field.name}" is not UTF-8 text; save the file as UTF-8')
    # What arrow takes for dates and times was text.
    temporal = {field.name: pyarrow.string() for field in table.schema if pyarrow.types.is_temporal(field.type)}
    return read(temporal) if temporal else table


def _read_json(path: Path) -> pyarrow.Table:
    import pyarrow

    text = path.read_text(encoding="utf-8-sig")
    rows = json.loads(text) if text.lstrip().startswith("[") else list(_objects(text))
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise ValueError(f"row {number:,} is {json.dumps(row)[:40]}, not an object")
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {}
    for name in names:
        try:
            columns[name] = pyarrow.array([row.get(name) for row in rows])
        except pyarrow.ArrowException as error:
            raise ValueError(f'the values of "{name}" are of several types: {error}') from error
    return pyarrow.table(columns)


def _objects(text: str) -> Iterator[Any]:
    """Yields the JSON values of `text`, one after the other, with white space in between."""
    decoder, visible, place = json.JSONDecoder(), re.compile(r"\S"), 0
    while found := visible.search(text, place):
        value, place = decoder.raw_decode(text, found.start())
        yield value


def _read_parquet(path: Path) -> pyarrow.Table:
    import pyarrow
    from pyarrow import parquet

    table = parquet.read_table(path)
    fields = [field.with_type(_plain(field.type)) for field in table.schema]
    return table.cast(pyarrow.schema(fields, metadata=table.schema.metadata))


def _plain(kind: pyarrow.DataType) -> pyarrow.DataType:
    """Returns the type without its encoding: what pandas writes for a categorical or a text column."""
    from pyarrow import string, types

    if types.is_dictionary(kind):
        return _plain(kind.value_type)
    return string() if types.is_large_string(kind) or types.is_string_view(kind) else kind


READERS: dict[str, Callable[[Path], pyarrow.Table]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".json": _read_json,
    ".jsonl": _read_json,
    ".parquet": _read_parquet,
}


def read_file(path: Path) -> Dataset:
    """Returns the rows of one csv, tsv, json (a list of objects), jsonl or parquet file.

    Every text stays text: "NA" and "None" in a csv are words, not nulls. Raises DataError where there is no such file,
    its kind is unknown, or it can't be parsed.
    """
    import pyarrow
    from datasets import Dataset

    if not path.is_file():
        raise DataError(f"{path}: {'is a directory, not a file' if path.is_dir() else 'no such file'}")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: a data file must end in {', '.join(READERS)}")
    try:
        table = reader(path)
        names = table.column_names
        if len(set(names)) < len(names):
            raise DataError(f"{path}: column names are repeated: {', '.join(names)}")
        return Dataset(table)
    except (pyarrow.ArrowException, ValueError, OSError) as error:
        raise DataError(f"{path}: can't be read as {path.suffix[1:]}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def load_files(files: Mapping[Any, Sequence[Path]]) -> dict[str, Dataset]:
    """Returns split ▶ rows of its files, one after the other.

    Raises DataError as `read_file` does, and where the files of a split differ in their columns or in a column's type.
    """
    from datasets import concatenate_datasets

    splits = {}
    for split, paths in files.items():
        parts = [read_file(path) for path in paths]
        columns = parts[0].column_names
        for path, part in zip(paths, parts, strict=True):
            if set(part.column_names) != set(columns):
                raise DataError(
                    f"{path}: its columns are {', '.join(part.column_names)}; those of {paths[0]} are "
                    f"{', '.join(columns)}: the files of one split ({split}) must agree"
                )
        try:
            splits[split] = concatenate_datasets(parts)
        except ValueError as error:
            names = ", ".join(map(str, paths))
            raise DataError(f"{names}: the files of the {split} split differ in type: {_first_line(error)}") from error
    return splits


def load_hub(
    repository: str, *, configuration: str | None, revision: str | None, splits: Mapping[Any, str]
) -> dict[str, Dataset]:
    """Returns split ▶ rows of a data set on the Hub or in its local cache; `splits` maps our names to the data set's.

    Raises DataError where it can't be had; without a connection, or with HF_HUB_OFFLINE=1, only what the cache holds
    can be.
    """
    import datasets

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
        loaded[ours] = available[theirs]
    return loaded


def _why_not_from_hub(error: Exception) -> str:
    from huggingface_hub import is_offline_mode

    if is_offline_mode():
        return (
            "not in the local cache, and HF_HUB_OFFLINE=1 keeps the Hub out of reach: unset it, fill the cache on a "
            f"machine with a connection, or give local data under data.files ({_first_line(error)})"
        )
    return f"can't be loaded from the Hub: {_first_line(error)}"


def fingerprint(dataset: Dataset, columns: Sequence[str]) -> str:
    """Returns the SHA-256 of the rows in these columns, in order: equal for equal content, in whatever file."""
    digest = hashlib.sha256()
    for batch in dataset.select_columns(list(columns)).iter(batch_size=1000):
        rows: Any = [batch[column] for column in columns]
        digest.update(json.dumps(rows, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
