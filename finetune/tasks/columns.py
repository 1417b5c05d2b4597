"""Columns of rows as texts and as classes, with one message where they are neither; values stay in the table."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from finetune.data import Column, Rows
from finetune.errors import DataError, SettingError, counted, did_you_mean, listed
from finetune.tasks.class_names import check_names

if TYPE_CHECKING:
    import numpy as np

    Integers = np.ndarray[Any, np.dtype[np.int64]]

MANY_CLASSES = 1000
"""From here on a class must have two examples on average: a number or a name in every row is no class."""
GIVEN = "given"
"""What rows are called that belong to no split: those that a model is asked about after its training."""
LEAST_TOKENS = 8
TEXT = frozenset({"string", "large_string"})
UNKNOWN = -1


def check_length_setting(max_length: int) -> None:
    """Raises SettingError where `max_length` is too few tokens for a text and the special ones."""
    if max_length < LEAST_TOKENS:
        raise SettingError("max_length", f"{max_length} must be at least {LEAST_TOKENS} tokens")


def check_columns(split: str, rows: Rows, columns: Sequence[str]) -> None:
    """Raises DataError where `rows` has no row, or lacks one of `columns`."""
    if len(rows) == 0:
        raise DataError(f"the {split} split is empty")
    for column in columns:
        if column not in rows.columns:
            raise DataError(
                f'the {split} split has no column "{column}"; it has '
                f"{listed(rows.columns)}{did_you_mean(column, rows.columns)}"
            )


def texts_of(split: str, rows: Rows, column: str) -> Column:
    """Returns a column of texts; raises DataError where one is missing, or it holds something else."""
    check_filled(split, rows, column)
    kind = rows.kind(column)
    if kind not in TEXT:
        raise DataError(
            f'column "{column}" of the {split} split holds {kind}, not text; name the '
            "column of texts, or write them as strings"
        )
    return rows.column(column)


def numbers_of(split: str, rows: Rows, column: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Returns a column of numbers as float64, shape (n,).

    Raises DataError where one is missing or not finite, also as the float32 that models take, or they are none.
    """
    import numpy as np

    check_filled(split, rows, column)
    kind, names = rows.kind(column), rows.class_names.get(column)
    where = f'column "{column}" of the {split} split'
    if names is not None:
        raise DataError(f"{where} numbers the classes {listed(names)}; name a column of numbers that measure")
    if not kind.startswith(("float", "int", "uint")):
        raise DataError(f"{where} holds {kind}, not numbers; name the column of numbers, or write them as numbers")
    values: np.ndarray[Any, np.dtype[np.float64]] = rows.table.column(column).to_numpy().astype(np.float64)
    unfit = np.flatnonzero(~(np.abs(values) <= np.finfo(np.float32).max))
    if len(unfit):
        raise DataError(
            f"{where} holds {values[unfit[0]]:g} in row {unfit[0] + 1:,} {_in_all(len(unfit))}; "
            "labels are finite numbers, up to 3e38: correct or remove them"
        )
    return values


def flags_of(split: str, rows: Rows, column: str) -> np.ndarray[Any, np.dtype[np.int8]]:
    """Returns a column of 0 and 1, or of truth values, shape (n,); raises DataError where it holds something else."""
    import numpy as np

    check_filled(split, rows, column)
    kind = rows.kind(column)
    where = f'column "{column}" of the {split} split'
    if kind != "bool" and not kind.startswith(("float", "int", "uint")):
        raise DataError(f"{where} holds {kind}; a column of a label holds 0 and 1, or true and false")
    values = rows.table.column(column).to_numpy()
    unfit = np.flatnonzero((values != 0) & (values != 1))
    if len(unfit):
        raise DataError(
            f"{where} holds {values[unfit[0]]} in row {unfit[0] + 1:,} {_in_all(len(unfit))}; a column of a label "
            "holds 0 and 1"
        )
    flags: np.ndarray[Any, np.dtype[np.int8]] = values.astype(np.int8)
    return flags


def lists_of(split: str, rows: Rows, column: str) -> Any:
    """Returns a column of lists of texts as it is stored; raises DataError where one is missing, or it holds others."""
    from pyarrow import compute, types

    check_filled(split, rows, column)
    values = rows.table.column(column)
    where = f'column "{column}" of the {split} split'
    if not (types.is_list(values.type) or types.is_large_list(values.type)) or str(values.type.value_type) not in TEXT:
        kind = f"lists of {values.type.value_type}" if types.is_list(values.type) else rows.kind(column)
        raise DataError(f"{where} holds {kind}, not lists of texts; name the column of lists, or write them as such")
    empty = compute.list_flatten(values).is_null()
    if compute.any(empty).as_py():
        row = compute.list_parent_indices(values).filter(empty)[0].as_py()
        raise DataError(f"{where} lacks one of the texts of row {row + 1:,}: fill or remove it")
    return values


@dataclass(frozen=True)
class Labels:
    """The labels of a split: whole numbers, truth values or texts; those of a ClassLabel by their names."""

    split: str
    rows: Rows
    column: str

    @classmethod
    def of(cls, split: str, rows: Rows, column: str) -> Labels:
        """Returns the labels in a column; raises DataError where one is missing, or they can be no classes."""
        check_filled(split, rows, column, also_empty=True)
        kind = rows.kind(column)
        if not (kind in TEXT or kind == "bool" or kind.startswith(("int", "uint"))):
            raise DataError(
                f'column "{column}" of the {split} split holds {kind}; classes are whole numbers, true/false or strings'
            )
        return cls(split, rows, column)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Any:
        return self._named(self.rows.column(self.column)[row])

    @cached_property
    def distinct(self) -> list[Any]:
        """Each label once, in the order in which they come."""
        return [self._named(value) for value in self._stored.to_pylist()]

    @cached_property
    def _stored(self) -> Any:
        return self.rows.table.column(self.column).unique()

    def _named(self, value: Any) -> Any:
        names = self.rows.class_names.get(self.column)
        return value if names is None or not 0 <= value < len(names) else names[value]

    def classes(self) -> dict[Any, str]:
        """Returns each class's label ▶ its name, in the order of the classes' numbers; raises DataError."""
        known = self.rows.class_names.get(self.column)
        classes = {value: name_of(value) for value in known or sorted(self.distinct)}
        where = f'column "{self.column}" of the {self.split} split'
        if len(classes) < 2:
            raise DataError(f"{where} has only one class, {reprlib.repr(self[0])}; two are needed")
        if known is None and len(classes) > max(MANY_CLASSES, len(self) / 2):
            raise DataError(
                f"{where} has {len(classes):,} classes in {len(self):,} rows, too few of each to learn from; is it a "
                "column of numbers or names?"
            )
        check_names(where, list(classes.values()))
        return classes

    def rows_of(self, positions: Integers) -> Integers:
        """Returns the rows, ascending, that the labels at `positions` are of."""
        return positions

    def numbers_by_name(self, names: Sequence[str]) -> Integers:
        """Returns the position in `names` of each label's name, shape (n,); raises DataError as `numbers` does."""
        by_name = {name_of(value): value for value in self.distinct}
        return self.numbers([by_name.get(name, name) for name in names])

    def numbers(self, classes: Sequence[Any], kind: str = "class of the train split") -> Integers:
        """Returns the position in `classes` of each label, shape (n,).

        Raises DataError where one is none of them; `kind`: what they are then called.
        """
        import numpy as np
        from pyarrow import compute

        known: Mapping[Any, int] = {value: number for number, value in enumerate(classes)}
        of_distinct = np.array([known.get(value, UNKNOWN) for value in self.distinct], dtype=np.int64)
        places = compute.index_in(self.rows.table.column(self.column), value_set=self._stored)
        numbers: Integers = of_distinct[integers_of(places)]
        unknown = self.rows_of(np.flatnonzero(numbers == UNKNOWN))
        if not len(unknown):
            return numbers
        if all(value == -1 for value in self.distinct):
            raise DataError(
                f'column "{self.column}" of the {self.split} split is -1 in every row: it has no labels, so it can\'t '
                "be scored; leave the split out"
            )
        first = self[int(np.argmax(numbers == UNKNOWN))]
        choices = ", ".join(map(reprlib.repr, classes[:20])) + (", …" if len(classes) > 20 else "")
        raise DataError(
            f'column "{self.column}" of the {self.split} split holds {reprlib.repr(first)} in row {unknown[0] + 1:,} '
            f"{_in_all(len(unknown))}, which is no {kind}; those are {choices}"
        )


def name_of(value: Any) -> str:
    """Returns the name of the class that a label stands for, where it has no other."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def check_filled(split: str, rows: Rows, column: str, *, also_empty: bool = False) -> None:
    """Raises DataError where a value is null or, on demand, the empty text."""
    from pyarrow import compute

    missing = missing_values(rows, column, also_empty=also_empty)
    count = compute.sum(missing).as_py()
    if count:
        first = f"row {compute.index(missing, value=True).as_py() + 1:,}"
        where = f"{first}: fill or remove it"
        if count > 1:
            where = f"{counted(count, 'row')}, the first of them {first}: fill or remove them"
        raise DataError(f'column "{column}" of the {split} split is empty in {where}')


def missing_values(rows: Rows, column: str, *, also_empty: bool) -> Any:
    """Returns which values are null or, on demand, the empty text, as arrow has truth values."""
    from pyarrow import compute

    values = rows.table.column(column)
    missing = values.is_null()
    if also_empty and rows.kind(column) in TEXT:
        # Not compute.equal(values, ""): to take a value from Python, arrow imports pandas too.
        missing = compute.or_kleene(missing, compute.invert(compute.binary_length(values).cast("bool")))
    return missing


def integers_of(values: Any) -> Integers:
    """Returns whole numbers that arrow has, none of them null, shape (n,).

    Not by values.to_numpy(), which imports pandas, a fifth of all that `finetune check` does.
    """
    import numpy as np

    return np.concatenate([np.zeros(0, dtype=np.int32), *map(np.from_dlpack, values.iterchunks())])


def _in_all(count: int) -> str:
    return f"({counted(count, 'row')} of this kind in all)"
