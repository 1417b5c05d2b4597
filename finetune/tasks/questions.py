"""Questions about texts, and the answers that are accepted, in the columns of SQuAD, checked against those texts."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetune.data import CHUNK, Column
from finetune.errors import DataError, listed
from finetune.tasks.on_demand import OnDemand

if TYPE_CHECKING:
    import numpy as np

    from finetune.data import Rows

    Integers = np.ndarray[Any, np.dtype[np.int64]]

TEXT, START = "text", "answer_start"
NOWHERE = -1


@dataclass(frozen=True)
class AnswerTexts(OnDemand[tuple[str, ...]]):
    """The texts that are accepted of each of n questions."""

    column: Sequence[Any]

    def __len__(self) -> int:
        return len(self.column)

    def between(self, start: int, end: int) -> list[tuple[str, ...]]:
        return [tuple(_several(value)) for value in self.column[start:end]]


@dataclass(frozen=True)
class Accepted:
    """The answers to n questions: all texts of each, none where it has no answer; and, of the first of them, the
    character of the context that it starts at and the one after its last, without white space around it; shape (n,),
    -1 where there is none."""

    texts: Sequence[tuple[str, ...]]
    starts: Integers
    ends: Integers

    @classmethod
    def none(cls, count: int) -> Accepted:
        """Returns what stands for the answers to `count` questions that aren't known."""
        import numpy as np

        nowhere = np.full(count, NOWHERE)
        return cls([()] * count, nowhere, nowhere)


@dataclass(frozen=True)
class Questions:
    """The n questions of a split, as it is called, the texts that they are about, and their accepted answers."""

    split: str
    questions: Sequence[str]
    contexts: Sequence[str]
    accepted: Accepted

    def __len__(self) -> int:
        return len(self.questions)

    def cut(self, starts: Integers, ends: Integers) -> list[str]:
        """Returns the words of each context from one character to before another; "" where it starts at -1."""
        texts: list[str] = []
        for begin in range(0, len(self), CHUNK):
            some = slice(begin, begin + CHUNK)
            cuts = zip(self.contexts[some], starts[some], ends[some], strict=True)
            texts += ["" if start == NOWHERE else context[start:end] for context, start, end in cuts]
        return texts


def read_answers(
    split: str, rows: Rows, contexts: Sequence[str], *, column: str, flat: tuple[str, str] | None, needed: bool
) -> Accepted:
    """Returns the answers in a column of {text: [...], answer_start: [...]}, or in two `flat` ones of texts and starts.

    Raises DataError where they are neither, where an answer isn't in its context at the place given, and, where they
    are `needed`, where a question has none.
    """
    import numpy as np

    where = " and ".join(f'column "{name}"' for name in flat or (column,)) + f" of the {split} split"
    texts, starts = _flat_columns(rows, flat, where) if flat else _nested_columns(rows, column, where)
    found = np.full((len(rows), 2), NOWHERE)
    for row, (context, row_texts, row_starts) in enumerate(_in_rows(contexts, texts, starts)):
        if len(row_texts) != len(row_starts):
            raise DataError(
                f"{where}: row {row + 1:,} has {len(row_texts)} texts of answers and {len(row_starts)} places; each "
                "answer has one of both"
            )
        for text, start in zip(row_texts, row_starts, strict=True):
            problem = _problem(context, text, start)
            if problem:
                raise DataError(f"{where}: row {row + 1:,} has {problem}")
        if row_texts:
            found[row] = _stripped(row_texts[0], row_starts[0])
    without = np.flatnonzero(found[:, 0] == NOWHERE)
    if needed and len(without):
        raise DataError(
            f"{where}: {len(without):,} questions have no answer, the first of them row {without[0] + 1:,}; set "
            "task.null_threshold to 0, say, so that a model may give none, as in SQuAD v2, or remove them"
        )
    return Accepted(AnswerTexts(texts), found[:, 0], found[:, 1])


def _in_rows(*columns: Sequence[Any]) -> Iterator[tuple[str, list[Any], list[Any]]]:
    for start in range(0, len(columns[0]), CHUNK):
        contexts, texts, starts = (column[start : start + CHUNK] for column in columns)
        for context, some_texts, some_starts in zip(contexts, texts, starts, strict=True):
            yield context, _several(some_texts), _several(some_starts)


def _several(value: Any) -> list[Any]:
    """Returns a cell of several values, of one, or of none: null, or a text without a character."""
    if isinstance(value, list):
        return value
    return [] if value is None or value == "" else [value]


def _problem(context: str, text: str | None, start: int | None) -> str:
    """Returns what is wrong with an answer, or ""."""
    if text is None or start is None or not text.strip():
        return f"the answer {text!r} at {start}; an answer is some words, and the number of their first character"
    there = context[start : start + len(text)] if start >= 0 else ""
    if there == text:
        return ""
    stands = f"where the context has {reprlib.repr(there)}" if there else f"outside its context of {len(context):,}"
    place = context.find(text)
    known = f"; it stands at {place:,}" if place >= 0 else "; it stands nowhere in the context"
    return f"the answer {reprlib.repr(text)} at character {start:,}, {stands}{known} (characters count from 0)"


def _stripped(text: str, start: int) -> tuple[int, int]:
    first = start + len(text) - len(text.lstrip())
    return first, first + len(text.strip())


def _nested_columns(rows: Rows, column: str, where: str) -> tuple[Column, Column]:
    from pyarrow import compute, types

    values = rows.table.column(column)
    names = [field.name for field in values.type] if types.is_struct(values.type) else []
    if not {TEXT, START} <= {*names}:
        kind = f"objects with {listed(names)}" if names else rows.kind(column)
        raise DataError(
            f"{where} holds {kind}; answers are objects with {TEXT} and {START}, two lists, as in SQuAD; or name "
            "columns of each as task.answer_text and task.answer_start"
        )
    texts, starts = (compute.struct_field(values, name) for name in (TEXT, START))
    _check_kinds(texts.type, starts.type, where)
    return Column(texts), Column(starts)


def _flat_columns(rows: Rows, names: tuple[str, str], where: str) -> tuple[Column, Column]:
    texts, starts = (rows.table.column(name) for name in names)
    _check_kinds(texts.type, starts.type, where)
    return Column(texts), Column(starts)


def _check_kinds(texts: Any, starts: Any, where: str) -> None:
    from pyarrow import types

    def inner(kind: Any) -> Any:
        return kind.value_type if types.is_list(kind) or types.is_large_list(kind) else kind

    one, other = inner(texts), inner(starts)
    are_texts = types.is_string(one) or types.is_large_string(one) or types.is_null(one)
    if not are_texts or not (types.is_integer(other) or types.is_null(other)):
        raise DataError(
            f"{where} holds {texts} and {starts}; answers are texts, and the whole numbers that they start at"
        )
