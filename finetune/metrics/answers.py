"""What a model answered, beside what is true: all that a metric needs to know."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

Form = Literal["classes", "label_sets", "numbers", "tags", "texts", "tokens"]


@dataclass(frozen=True)
class Answers:
    """What a model answered for n examples, beside what is true. What the fields are depends on the form:

    form         predictions                     references                      scores, or None      names
    classes      int (n,)                        int (n,)                        float (n, classes)   the classes'
    label_sets   0/1 int (n, labels)             0/1 int (n, labels)             float (n, labels)    the labels'
    numbers      float (n,)                      float (n,)
    tags         n sequences of tag names        n sequences, of equal lengths
    texts        n texts                         n tuples of accepted texts
    tokens       float (n, 2)                    int (n,)

    Scores are probabilities. Where no text is accepted, (), the right one is the empty text. Of language modelling
    (tokens) the predictions are, for each example, the summed negative log-likelihood in nats and the number of tokens
    predicted right; the references are the numbers of tokens that count. `names` is () where they aren't known. Raises
    ValueError where the lengths differ.
    """

    form: Form
    predictions: Any
    references: Any
    scores: Any = None
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("predictions", "scores"):
            column = getattr(self, name)
            if column is not None and len(column) != len(self):
                raise ValueError(f"{len(column)} {name} of {len(self)} examples")
        if self.form == "tags":
            for number, (predicted, true) in enumerate(zip(self.predictions, self.references, strict=True)):
                if len(predicted) != len(true):
                    raise ValueError(f"{len(predicted)} tags predicted of {len(true)} tokens of example {number}")

    def __len__(self) -> int:
        return len(self.references)

    def take(self, rows: Iterable[int]) -> Answers:
        """Returns the examples at `rows`, positions that may repeat, as draws with replacement do."""
        numbers = np.asarray(rows, dtype=np.int64)
        return replace(
            self,
            predictions=_taken(self.predictions, numbers),
            references=_taken(self.references, numbers),
            scores=None if self.scores is None else _taken(self.scores, numbers),
        )


def _taken(column: Any, rows: np.ndarray[Any, np.dtype[np.int64]]) -> Any:
    return column[rows] if isinstance(column, np.ndarray) else [column[row] for row in rows]
