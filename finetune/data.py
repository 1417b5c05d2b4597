"""Splits of examples, from local files or from the Hub, each as one `datasets.Dataset`, and their fingerprints."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import pyarrow
    from datasets import Dataset


def _read_csv(path: Path) -> pyarrow.Table:
    from pyarrow import csv

    delimiter = "\t" if path.suffix == ".tsv" else ","
    return csv.read_csv(
        path,
        parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=csv.ConvertOptions(strings_can_be_null=False),
    )


def _read_json_lines(path: Path) -> pyarrow.Table:
    from pyarrow import json as arrow_json

    return arrow_json.read_json(path, parse_options=arrow_json.ParseOptions(newlines_in_values=True))


def _read_json(path: Path) -> pyarrow.Table:
    import pyarrow

    text = path.read_text(encoding="utf-8-sig")
    if not text.lstrip().startswith("["):
        return _read_json_lines(path)
    return pyarrow.Table.from_pylist(json.loads(text))


def _read_parquet(path: Path) -> pyarrow.Table:
    from pyarrow import parquet

    return parquet.read_table(path)


READERS: dict[str, Callable[[Path], pyarrow.Table]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".json": _read_json,
    ".jsonl": _read_json_lines,
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
    except (pyarrow.ArrowException, ValueError, TypeError, AttributeError, OSError) as error:
        raise DataError(f"{path}: can't be read as {path.suffix[1:]}: {str(error).splitlines()[0]}") from error


def load_files(files: Mapping[Any, Sequence[Path]]) -> dict[str, Dataset]:
    """Returns split ▶ rows of its files, one after the other. Raises DataError as `read_file` does."""
    from datasets import concatenate_datasets

    splits = {}
    for split, paths in files.items():
        parts = [read_file(path) for path in paths]
        try:
            splits[split] = concatenate_datasets(parts) if len(parts) > 1 else parts[0]
        except ValueError as error:
            names = ", ".join(map(str, paths))
            raise DataError(f"{names}: the columns of the {split} files don't agree: {error}") from error
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
    from huggingface_hub import constants

    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if constants.is_offline_mode():
        return (
            "not in the local cache, and HF_HUB_OFFLINE=1 keeps the Hub out of reach: unset it, fill the cache on a "
            f"machine with a connection, or give local data under data.files ({reason})"
        )
    return f"can't be loaded from the Hub: {reason}"


def fingerprint(dataset: Dataset, columns: Sequence[str]) -> str:
    """Returns the SHA-256 of the rows in these columns, in order: equal for equal content, in whatever file."""
    digest = hashlib.sha256()
    for batch in dataset.select_columns(list(columns)).iter(batch_size=1000):
        rows: Any = [batch[column] for column in columns]
        digest.update(json.dumps(rows, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
