"""Splits of one table: by the content of its texts, so that equal ones are together, and evenly within each class."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from finetune.data import Rows
from finetune.errors import DataError

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}
FEWEST = 30
"""With fewer distinct texts nothing can be said on a tenth of them."""


def split_rows(rows: Rows, inputs: Sequence[str], *, label: str | None, shares: Mapping[str, float]) -> dict[str, Rows]:
    """Returns split ▶ rows, in the order that they have, with about its share of the distinct examples.

    Two rows whose `inputs` are equal are in one split. Which one follows from the content, so it is the same in every
    run and whatever the order. `label`: the column of classes, each of which is split so, that of the first of equal
    rows counting. Raises DataError for too few rows.
    """
    import numpy as np

    texts = [json.dumps(parts, default=str) for parts in zip(*(rows.column(name) for name in inputs), strict=True)]
    places: dict[str, list[int]] = defaultdict(list)
    for row, text in enumerate(texts):
        places[text].append(row)
    if len(places) < FEWEST:
        raise DataError(
            f"{len(places):,} different examples are too few to be split: {FEWEST} are the least; give files of train "
            "and validation instead"
        )
    labels = rows.values(label) if label else [None] * len(rows)
    by_class: dict[Any, list[str]] = defaultdict(list)
    for text, own in places.items():
        by_class[labels[own[0]]].append(text)
    chosen: dict[str, list[int]] = {split: [] for split in shares}
    for members in by_class.values():
        for split, some in _cut(sorted(members, key=_draw), shares).items():
            chosen[split] += [row for text in some for row in places[text]]
    return {split: rows.select(np.array(sorted(some), dtype=np.int64)) for split, some in chosen.items() if some}


def _draw(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _cut(members: list[str], shares: Mapping[str, float]) -> dict[str, list[str]]:
    """Returns the members of each split; what is left over by rounding goes to the first."""
    parts, start = {}, 0
    for split, share in [*shares.items()][1:]:
        end = start + round(share * len(members))
        parts[split] = members[start:end]
        start = end
    return {next(iter(shares)): members[start:], **parts}
