"""Labels of which a row has a list: the names of those that a text has, or a tag for each of its words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetune.errors import DataError, counted
from finetune.tasks.columns import TEXT, Labels, check_filled, integers_of, missing_values

if TYPE_CHECKING:
    from finetune.data import Rows
    from finetune.tasks.columns import Integers

LISTS = "lists"


@dataclass(frozen=True)
class ListedLabels(Labels):
    """The labels in a column of lists, end to end; `bounds`: n + 1 places in them, where the rows' lists begin."""

    bounds: Integers

    @classmethod
    def of_lists(cls, split: str, rows: Rows, column: str) -> ListedLabels:
        """Returns the labels in a column of lists; raises DataError where it is none, or something is missing."""
        items, bounds = items_of(split, rows, column)
        labels = cls(split, items, column, bounds)
        kind = items.kind(column)
        if len(items) and not (kind in TEXT or kind == "bool" or kind.startswith(("int", "uint"))):
            raise DataError(
                f'column "{column}" of the {split} split holds lists of {kind}; labels are strings, whole numbers or '
                "true/false"
            )
        check_items(split, items, column, bounds)
        return labels

    def rows_of(self, positions: Integers) -> Integers:
        """Returns the rows, ascending, that the labels at `positions` are of."""
        return _owners(self.bounds, positions)

    def classes(self) -> dict[Any, str]:
        """As the base's; raises DataError also where no row has a label."""
        if not len(self) and self.column not in self.rows.class_names:
            raise DataError(f'column "{self.column}" of the {self.split} split has no label in any row')
        return super().classes()


def items_of(split: str, rows: Rows, column: str) -> tuple[Rows, Integers]:
    """Returns the items of a column of lists, end to end, and n + 1 places in them, where each row's begin.

    Raises DataError where a list is missing, or the column holds something else.
    """
    import numpy as np
    import pyarrow
    from pyarrow import compute

    from finetune.data import Rows as Items

    check_filled(split, rows, column)
    kind = rows.kind(column)
    if kind != LISTS:
        raise DataError(
            f'column "{column}" of the {split} split holds {kind}, not lists: name a column of lists, as json, jsonl '
            "and parquet have them"
        )
    lists = rows.table.column(column)
    lengths = integers_of(compute.list_value_length(lists))
    names = {column: rows.class_names[column]} if column in rows.class_names else {}
    items = Items(pyarrow.table({column: compute.list_flatten(lists)}), names)
    return items, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def check_items(split: str, items: Rows, column: str, bounds: Integers, *, also_empty: bool = True) -> None:
    """Raises DataError where an item of a list is null or, unless it may be, the empty text."""
    import numpy as np

    missing = missing_values(items, column, also_empty=also_empty)
    found = _owners(bounds, np.flatnonzero(integers_of(missing.cast("int8"))))
    if len(found):
        raise DataError(
            f'column "{column}" of the {split} split has an empty item in {counted(len(found), "row")}, the first of '
            f"them row {found[0] + 1:,}: fill or remove it"
        )


def _owners(bounds: Integers, positions: Integers) -> Integers:
    import numpy as np

    return np.unique(np.searchsorted(bounds, positions, side="right") - 1)
