"""The rows of a split: an arrow table, and the names of the classes that its columns number."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    import numpy as np
    import pyarrow
    from datasets import Dataset

METADATA = b"huggingface"
"""Where `datasets` keeps what it knows of the columns of a table."""

CHUNK = 1000
"""How many values of a column are Python objects at a time, as where texts are read to be tokenised."""


@dataclass(frozen=True)
class Column(Sequence[Any]):
    """The values of a column, which are made when they are asked for; a slice of it is a list."""

    values: pyarrow.ChunkedArray

    def __len__(self) -> int:
        return len(self.values)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self.values[index].to_pylist() if isinstance(index, slice) else self.values[index].as_py()

    def __iter__(self) -> Iterator[Any]:
        for chunk in self.values.iterchunks():
            for start in range(0, len(chunk), CHUNK):
                yield from chunk.slice(start, CHUNK).to_pylist()


@dataclass(frozen=True)
class Rows:
    """n rows. `class_names`: column ▶ the names of the classes that stand in it as numbers, or in its lists."""

    table: pyarrow.Table
    class_names: Mapping[str, tuple[str, ...]]

    @classmethod
    def of_table(cls, table: pyarrow.Table) -> Rows:
        """Returns the rows of a table, with the class names that `datasets` left in its metadata.

        Raises ValueError where those can't be read.
        """
        return cls(table, _class_names(table.schema))

    @classmethod
    def of_dataset(cls, dataset: Dataset) -> Rows:
        """Returns the rows of a data set that `datasets` has loaded."""
        features = dataset.features.items()
        names = {name: getattr(getattr(each, "feature", each), "names", None) for name, each in features}
        return cls(dataset.with_format("arrow")[:], {name: tuple(each) for name, each in names.items() if each})

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def columns(self) -> list[str]:
        """The names of the columns, in order."""
        return list(self.table.column_names)

    def kind(self, column: str) -> str:
        """Returns what the values of `column` are: "string", "int64", "bool", "float64", "lists", "objects", …"""
        return _kind(self.table.schema.field(column).type)

    def column(self, name: str) -> Column:
        """Returns a column, whose values stay where they are; of classes, their numbers."""
        return Column(self.table.column(name))

    def values(self, column: str) -> list[Any]:
        """Returns all values of `column` at once; of classes, their numbers."""
        return self.column(column)[:]

    def select(self, positions: np.ndarray[Any, np.dtype[np.int64]]) -> Rows:
        """Returns the rows at `positions`, in that order."""
        return Rows(self.table.take(positions), self.class_names)

    def parts(self, size: int) -> Iterator[Rows]:
        """Yields all rows, `size` after the other, where they are; the last part may be shorter."""
        for start in range(0, len(self), size):
            yield Rows(self.table.slice(start, size), self.class_names)

    def beside(self, column: str, folder: Path) -> Rows:
        """Returns the rows with `folder` as that in which the files lie that `column` names.

        A column of texts becomes one of objects, with a "path" and a "folder"; one of objects that have a path gets a
        folder too; another stays as it is.
        """
        import pyarrow
        from pyarrow import types

        place, kind = self.table.schema.get_field_index(column), self.table.schema.field(column).type
        is_text = types.is_string(kind) or types.is_large_string(kind)
        if not is_text and not (types.is_struct(kind) and kind.get_field_index("path") >= 0):
            return self
        of_kind = pyarrow.struct(
            [
                *([("path", kind)] if is_text else kind),
                ("folder", pyarrow.dictionary(pyarrow.int32(), pyarrow.string())),
            ]
        )
        chunks = [_beside(chunk, folder, of_kind) for chunk in self.table.column(place).chunks]
        values = pyarrow.chunked_array(chunks, type=of_kind)
        return Rows(self.table.set_column(place, column, values), self.class_names)

    @property
    def as_read(self) -> pyarrow.Table:
        """The table before `beside`: names of files without their folders."""
        from pyarrow import compute

        table = self.table
        for place, field in enumerate(table.schema):
            if _is_struct_of(field.type, ("path", "folder")):
                table = table.set_column(place, field.name, compute.struct_field(table.column(place), "path"))
        return table

    def batches(self, columns: Sequence[str], *, size: int) -> Iterator[list[list[Any]]]:
        """Yields the values of each of `columns` in `size` rows after the other; the last batch may be shorter."""
        for part in self.parts(size):
            yield [part.values(column) for column in columns]


def joined(parts: Sequence[Rows]) -> Rows:
    """Returns the rows of `parts`, one after the other, in the columns of the first.

    Raises ValueError where a column is of several types, or numbers its classes differently; one of nothing but nulls
    is of any type.
    """
    import pyarrow

    kept = [part for part in parts if len(part)] or list(parts[:1])
    for part in kept:
        for column in part.columns:
            if part.class_names.get(column) != kept[0].class_names.get(column):
                raise ValueError(f"the classes of {column} are numbered in several ways")
    tables = [part.table.select(kept[0].columns).replace_schema_metadata(None) for part in kept]
    try:
        return Rows(pyarrow.concat_tables(tables, promote_options="default"), kept[0].class_names)
    except pyarrow.ArrowException as error:
        raise ValueError(str(error)) from error


def _is_struct_of(kind: pyarrow.DataType, names: tuple[str, ...]) -> bool:
    from pyarrow import types

    return types.is_struct(kind) and tuple(kind.field(number).name for number in range(kind.num_fields)) == names


def _beside(values: pyarrow.Array, folder: Path, kind: pyarrow.StructType) -> pyarrow.StructArray:
    """Returns texts, or objects, as objects of `kind`, whose last field is the folder, kept once for all."""
    import pyarrow
    from pyarrow import compute, types

    numbers = pyarrow.nulls(len(values), pyarrow.int32()).fill_null(0)
    folders = pyarrow.DictionaryArray.from_arrays(numbers, pyarrow.array([str(folder)]))
    names = [kind.field(number).name for number in range(kind.num_fields - 1)]
    parts = [compute.struct_field(values, name) for name in names] if types.is_struct(values.type) else [values]
    return pyarrow.StructArray.from_arrays([*parts, folders], fields=list(kind), mask=values.is_null())


def _kind(kind: pyarrow.DataType) -> str:
    from pyarrow import types

    if types.is_struct(kind) or types.is_map(kind):
        return "objects"
    if types.is_nested(kind):
        return "lists"
    if types.is_floating(kind):
        return f"float{kind.bit_width}"
    return str(kind).partition("[")[0]


def _class_names(schema: pyarrow.Schema) -> dict[str, tuple[str, ...]]:
    from pyarrow import types

    text = (schema.metadata or {}).get(METADATA)
    if text is None:
        return {}
    try:
        features = (json.loads(text).get("info") or {}).get("features") or {}
        names = {field.name: _names_in(features.get(field.name) or {}) for field in schema}
    except (ValueError, AttributeError, RecursionError) as error:
        raise ValueError("what datasets left in its metadata is damaged") from error
    return {
        name: tuple(map(str, each))
        for name, each in names.items()
        if isinstance(each, list) and each and types.is_int64(_item(schema.field(name).type))
    }


def _names_in(feature: dict[str, Any]) -> Any:
    """Returns the class names that `datasets` tells of a column, or of the items of its lists."""
    return (feature.get("feature") or feature).get("names")


def _item(kind: pyarrow.DataType) -> pyarrow.DataType:
    from pyarrow import types

    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return kind.value_type if is_list else kind
