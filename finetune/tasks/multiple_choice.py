"""Multiple choice: which of several texts goes with a context, or is the right one by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from finetune.data import Column
from finetune.errors import DataError, SettingError, counted
from finetune.tasks.base import Outline
from finetune.tasks.classification import Classification
from finetune.tasks.columns import GIVEN, Labels, check_columns, check_length_setting, integers_of, lists_of, texts_of
from finetune.tasks.on_demand import OnDemand

if TYPE_CHECKING:
    import numpy as np

    from finetune.data import Keep, Rows
    from finetune.tasks.encoded_choices import ChoicePadding, EncodedChoices
    from finetune.tasks.pretrained import LoadedModel, Pretrained

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class InTurn(OnDemand[str]):
    """The texts of several columns of n rows: those of the first row, one of each column, then those of the next."""

    columns: tuple[Sequence[str], ...]

    def __len__(self) -> int:
        return len(self.columns) * len(self.columns[0])

    def between(self, start: int, end: int) -> list[str]:
        count = len(self.columns)
        first = start // count
        rows = slice(first, -(-end // count))
        texts = list(chain.from_iterable(zip(*(column[rows] for column in self.columns), strict=True)))
        return texts[start - first * count : end - first * count]


@dataclass(frozen=True)
class JoinedChoices(OnDemand[str]):
    """Every `size` texts in turn as one, line by line: those of one example."""

    texts: Sequence[str]
    size: int

    def __len__(self) -> int:
        return len(self.texts) // self.size

    def between(self, start: int, end: int) -> list[str]:
        texts = self.texts[start * self.size : end * self.size]
        return ["\n".join(texts[place : place + self.size]) for place in range(0, len(texts), self.size)]


@dataclass(frozen=True)
class Choices:
    """The n examples of one split, each of `count` choices: their texts one after the other, the contexts, if there
    are any, and the number of the right choice of each, from 0. Texts are made when they are asked for."""

    texts: Sequence[str]
    contexts: Sequence[str] | None
    labels: np.ndarray[Any, np.dtype[np.int64]]
    count: int

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def parts(self) -> tuple[Sequence[str], ...]:
        """What a model reads together, `count` times for each example: the context, if there is one, and a choice."""
        return (self.texts,) if self.contexts is None else (InTurn((self.contexts,) * self.count), self.texts)


@dataclass(frozen=True, kw_only=True)
class MultipleChoice(Classification):
    """Settings. `text`: the column of what all choices of a row go with, if there is one; `choices`: a column of lists
    of texts, or a column for each choice; `label`: the column of the right one; `max_length`: tokens kept of a context
    and a choice together."""

    has_named_classes: ClassVar[bool] = False  # what is right is known by its place alone

    name: Literal["multiple_choice"] = "multiple_choice"
    text: str | None = None
    choices: str | tuple[str, ...] = "choices"
    label: str = "label"
    max_length: int = 128

    def __post_init__(self) -> None:
        check_length_setting(self.max_length)
        if not isinstance(self.choices, str) and not 2 <= len(set(self.choices)) == len(self.choices) <= len(LETTERS):
            raise SettingError(
                "choices",
                f"{', '.join(self.choices) or 'none'}: name two columns or more, up to {len(LETTERS)}, each once; or "
                "one column of lists, by its name alone",
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read, in order."""
        return (*self._text_columns, self.label)

    @property
    def _text_columns(self) -> tuple[str, ...]:
        choices = (self.choices,) if isinstance(self.choices, str) else self.choices
        return choices if self.text is None else (self.text, *choices)

    def read(self, splits: Mapping[str, Rows]) -> tuple[tuple[str, ...], dict[str, Choices]]:
        """Returns the names of the choices, and split ▶ its examples.

        A label is the number of the right choice, from 0, or its letter, from A, as a number, a text or the name of a
        class; the names are letters where those of the train split are. Raises DataError for a missing column, an
        empty split, an empty cell, texts that aren't text, rows or splits that differ in their number of choices, fewer
        than two or more than 26 of them, and a label that is none.
        """
        for split, rows in splits.items():
            check_columns(split, rows, self.columns)
        counts = {split: self._count(split, rows) for split, rows in splits.items()}
        expected = counts["train"]
        for split, count in counts.items():
            _check_equal(split, count, expected, "the train split has")
        labels = {split: Labels.of(split, rows, self.label) for split, rows in splits.items()}
        return _names(labels["train"], expected), {
            split: self._examples(split, rows, _numbers(labels[split], expected)) for split, rows in splits.items()
        }

    def read_for(self, rows: Rows, classes: Sequence[str], *, labelled: bool) -> Choices:
        """As the base's; there must be as many choices as there are classes."""
        import numpy as np

        check_columns(GIVEN, rows, self.columns if labelled else self._text_columns)
        _check_equal(GIVEN, self._count(GIVEN, rows), len(classes), "the model was trained on")
        if not labelled:
            return self._examples(GIVEN, rows, np.zeros(len(rows), dtype=np.int64))
        return self._examples(GIVEN, rows, _numbers(Labels.of(GIVEN, rows, self.label), len(classes)))

    def _count(self, split: str, rows: Rows) -> int:
        """Returns how many choices each row has; raises DataError where they differ, or it is no such number."""
        import numpy as np
        from pyarrow import compute

        if not isinstance(self.choices, str):
            return len(self.choices)
        sizes = integers_of(compute.list_value_length(lists_of(split, rows, self.choices)))
        where = f'column "{self.choices}" of the {split} split'
        other = np.flatnonzero(sizes != sizes[0])
        if len(other):
            raise DataError(
                f"{where} has {sizes[0]} choices in row 1 and {sizes[other[0]]} in row {other[0] + 1:,} "
                f"({counted(len(other), 'row')} unlike the first in all); every row must have as many: "
                "remove those that haven't"
            )
        if not 2 <= sizes[0] <= len(LETTERS):
            raise DataError(f"{where} has {sizes[0]} choices in every row; from 2 to {len(LETTERS)} can be chosen from")
        return int(sizes[0])

    def _examples(self, split: str, rows: Rows, labels: np.ndarray[Any, np.dtype[np.int64]]) -> Choices:
        if isinstance(self.choices, str):
            texts: Sequence[str] = Column(_flat(lists_of(split, rows, self.choices)))
        else:
            texts = InTurn(tuple(texts_of(split, rows, column) for column in self.choices))
        contexts = None if self.text is None else texts_of(split, rows, self.text)
        return Choices(texts, contexts, labels, len(texts) // len(rows))

    def outline(self, examples: Choices, classes: Sequence[str]) -> Outline:
        """Returns how often each choice is the right one, and the texts, as many for an example as it has choices."""
        import numpy as np

        of_each = np.bincount(examples.labels, minlength=len(classes)).tolist()
        shares = dict(zip(classes, of_each, strict=True))
        return Outline(len(examples), shares, examples.parts, sequences=examples.count)

    def cautions(self, splits: Mapping[str, Choices], classes: Sequence[str]) -> list[str]:
        """Returns what is wrong with the examples of `read` but isn't refused: leaks, repetitions, blank ones."""
        from finetune.tasks.cautions import find_cautions
        from finetune.tasks.labelled_texts import LabelledTexts

        whole = {
            split: LabelledTexts(JoinedChoices(examples.texts, examples.count), examples.contexts, examples.labels)
            for split, examples in splits.items()
        }
        return find_cautions(whole, classes)

    def encode(
        self, examples: Choices, processor: Any, *, fingerprint: str | None = None, keep: Keep | None = None
    ) -> EncodedChoices:
        """Returns each choice tokenised after its context, and cut to `max_length`, as the base's."""
        from finetune.tasks.encoded_choices import EncodedChoices
        from finetune.tasks.encoding import tokenise
        from finetune.tasks.kept_tokens import tokens_of

        first, *second = examples.parts
        settings: dict[str, Any] = {"tokenizer": processor, "max_length": self.max_length}
        tokens = tokens_of(
            lambda: tokenise(first, second[0] if second else None, sequences=examples.count, **settings),
            made={"choices": examples.count, "contexts": examples.contexts is not None},
            fingerprint=fingerprint,
            keep=keep,
            **settings,
        )
        return EncodedChoices.of(tokens, examples.labels, count=examples.count)

    def collator(self, processor: Any) -> ChoicePadding:
        """Returns what makes a batch of examples: tensors of shape (examples, choices, tokens), dynamically padded."""
        from finetune.tasks.encoded_choices import ChoicePadding
        from finetune.tasks.encoding import Padding

        return ChoicePadding(Padding.of(processor))

    def load_model(self, source: Pretrained, *, classes: Sequence[str], processor: Any, seed: int) -> LoadedModel:
        """Returns the pretrained encoder under a new head, which gives each choice one logit."""
        from finetune.tasks.pretrained import load_classifier

        return load_classifier(
            "AutoModelForMultipleChoice", source, classes=classes, seed=seed, pad_token_id=processor.pad_token_id
        )


def _names(labels: Labels, count: int) -> tuple[str, ...]:
    """Returns what labels call the choices: letters where all of them are, else numbers."""
    letters = tuple(LETTERS[:count])
    return letters if {*map(str, labels.distinct)} <= {*letters} else tuple(map(str, range(count)))


def _numbers(labels: Labels, count: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Returns the number of the choice that each label names; raises DataError where it names none."""
    are_numbers = isinstance(labels.distinct[0], int)
    return labels.numbers(range(count) if are_numbers else _names(labels, count), kind="choice")


def _check_equal(split: str, count: int, expected: int, whose: str) -> None:
    if count != expected:
        raise DataError(f"the {split} split has {count} choices in a row, and {whose} {expected}: they must be as many")


def _flat(lists: Any) -> Any:
    from pyarrow import compute

    return compute.list_flatten(lists)
