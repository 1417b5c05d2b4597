"""Text classification: one label per sentence or pair of sentences."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from finetune.errors import DataError, SettingError, did_you_mean, listed
from finetune.tasks.class_names import check_names

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PreTrainedTokenizerBase

    from finetune.data import Rows
    from finetune.tasks.encoding import EncodedSplit, Padding
    from finetune.tasks.pretrained import LoadedModel, Pretrained

MANY_CLASSES = 1000
"""From here on a class must have two examples on average: a number or a name in every row is no class."""


@dataclass(frozen=True)
class LabelledTexts:
    """The examples of one split: texts, their second parts for pairs, and class numbers."""

    texts: Sequence[str]
    pairs: Sequence[str] | None
    labels: Sequence[int]


@dataclass(frozen=True, kw_only=True)
class TextClassification:
    """Settings. `text`, `text_pair`, `label`: column names; `max_length`: tokens kept per example, pair included."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid", "strict": True}

    name: Literal["text_classification"] = "text_classification"
    text: str = "text"
    text_pair: str | None = None
    label: str = "label"
    max_length: int = 128

    def __post_init__(self) -> None:
        if self.max_length < 8:
            raise SettingError("max_length", f"{self.max_length} must be at least 8 tokens")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read, in order."""
        return tuple(column for column in (self.text, self.text_pair, self.label) if column is not None)

    def read(self, splits: Mapping[str, Rows]) -> tuple[tuple[str, ...], dict[str, LabelledTexts]]:
        """Returns the class names, and split ▶ its examples with labels as positions in those names.

        The names are those of the train split's label column (a ClassLabel of `datasets`), else its values, sorted. A
        ClassLabel of another split is matched by name, whatever its order. Raises DataError for a missing column, an
        empty split, an empty cell, texts that aren't text, labels that aren't classes, a single class, a class for
        almost every row, class names that are no names or look alike, and a label that is none of the classes.
        """
        for split, rows in splits.items():
            _check_columns(split, rows, self.columns)
        labels = {split: _labels(split, rows, self.label) for split, rows in splits.items()}
        classes = _classes(splits["train"], self.label, labels["train"])
        examples = {}
        for split, rows in splits.items():
            examples[split] = LabelledTexts(
                texts=_texts(split, rows, self.text),
                pairs=None if self.text_pair is None else _texts(split, rows, self.text_pair),
                labels=_numbers(split, self.label, labels[split], list(classes)),
            )
        return tuple(classes.values()), examples

    def cautions(self, splits: Mapping[str, LabelledTexts], classes: Sequence[str]) -> list[str]:
        """Returns what is wrong with the examples of `read` but isn't refused: leaks, repetitions, blank texts."""
        from finetune.tasks.cautions import find_cautions

        return find_cautions(splits, classes)

    def encode(self, examples: LabelledTexts, tokenizer: PreTrainedTokenizerBase) -> EncodedSplit:
        """Returns the examples tokenised and cut to `max_length`."""
        from finetune.tasks.encoding import encode_texts

        return encode_texts(
            examples.texts, examples.pairs, examples.labels, tokenizer=tokenizer, max_length=self.max_length
        )

    def collator(self, tokenizer: PreTrainedTokenizerBase) -> Padding:
        """Returns what makes a batch of examples: dynamic padding."""
        from finetune.tasks.encoding import Padding

        return Padding.of(tokenizer)

    def load_tokenizer(self, source: Pretrained) -> PreTrainedTokenizerBase:
        """Returns the model's own tokenizer."""
        from finetune.tasks.pretrained import load_tokenizer

        return load_tokenizer(source, max_length=self.max_length)

    def load_model(
        self, source: Pretrained, *, classes: Sequence[str], tokenizer: PreTrainedTokenizerBase, seed: int
    ) -> LoadedModel:
        """Returns the pretrained encoder under a new head, the class names stored in its config."""
        from transformers import AutoModelForSequenceClassification

        from finetune.tasks.pretrained import load_model

        return load_model(
            AutoModelForSequenceClassification,
            source,
            seed=seed,
            id2label=dict(enumerate(classes)),
            label2id={name: number for number, name in enumerate(classes)},
            pad_token_id=tokenizer.pad_token_id,
            problem_type="single_label_classification",
        )

    def predict(self, logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Returns the predicted class numbers, shape (n,), from logits of shape (n, classes)."""
        classes: np.ndarray[Any, Any] = logits.argmax(axis=-1)
        return classes

    def training_loss(
        self, outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Returns the cross-entropy of `outputs.logits`, shape (n, classes), over the examples of the whole batch.

        It is summed over `labels`, shape (n,), and divided by `num_items_in_batch`, which counts the examples of all
        micro-batches and processes; by n where it isn't given.

        The models' own losses can't be relied on: BERT's, among others, takes that number and passes it over, so that
        the gradient grows with the micro-batches and the processes.
        """
        import torch

        total = torch.nn.functional.cross_entropy(outputs.logits.float(), labels, reduction="sum")
        return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)

    def loss(self, logits: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> float:
        """Returns the mean cross-entropy, in nats, of logits of shape (n, classes) against n class numbers."""
        import numpy as np

        shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
        chosen = np.take_along_axis(shifted, labels[:, None], axis=-1)[:, 0]
        return float(np.mean(np.log(np.exp(shifted).sum(axis=-1)) - chosen))

    def prediction_columns(self, logits: np.ndarray[Any, Any], classes: Sequence[str]) -> dict[str, Any]:
        """Returns the columns that a table of predictions shows: the class, and each class's probability."""
        import numpy as np

        powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
        probabilities = powers / powers.sum(axis=-1, keepdims=True)
        columns: dict[str, Any] = {"prediction": [classes[number] for number in self.predict(logits)]}
        return columns | {f"probability_{name}": probabilities[:, number] for number, name in enumerate(classes)}


def _check_columns(split: str, rows: Rows, columns: Sequence[str]) -> None:
    if len(rows) == 0:
        raise DataError(f"the {split} split is empty")
    for column in columns:
        if column not in rows.columns:
            raise DataError(
                f'the {split} split has no column "{column}"; it has '
                f"{listed(rows.columns)}{did_you_mean(column, rows.columns)}"
            )


def _values(split: str, rows: Rows, column: str, *, empty: Sequence[Any] = (None,)) -> list[Any]:
    """Returns the column as plain values, a ClassLabel's by their names; raises DataError where one is in `empty`."""
    values = rows.values(column)
    missing = [row for row, value in enumerate(values, start=1) if value in empty]
    if missing:
        raise DataError(
            f'column "{column}" of the {split} split is empty in {_rows(len(missing))}, the first of them row '
            f"{missing[0]:,}: fill or remove them"
        )
    names = rows.class_names.get(column)
    if names is None:
        return values
    return [names[value] if 0 <= value < len(names) else value for value in values]


def _rows(count: int) -> str:
    return f"{count:,} row{'s' * (count > 1)}"


def _texts(split: str, rows: Rows, column: str) -> list[str]:
    values, kind = _values(split, rows, column), rows.kind(column)
    if kind not in {"string", "large_string"}:
        raise DataError(
            f'column "{column}" of the {split} split holds {kind}, not text; name the '
            "column of texts, or write them as strings"
        )
    return values


def _labels(split: str, rows: Rows, column: str) -> list[Any]:
    values, kind = _values(split, rows, column, empty=(None, "")), rows.kind(column)
    if not (kind in {"string", "large_string", "bool"} or kind.startswith(("int", "uint"))):
        raise DataError(
            f'column "{column}" of the {split} split holds {kind}; classes are whole numbers, true/false or strings'
        )
    return values


def _classes(rows: Rows, column: str, labels: Sequence[Any]) -> dict[Any, str]:
    """Returns each class's value in the label column ▶ its name, in the order of the classes' numbers."""
    known = rows.class_names.get(column)
    classes = {
        value: str(value).lower() if isinstance(value, bool) else str(value) for value in known or sorted(set(labels))
    }
    where = f'column "{column}" of the train split'
    if len(classes) < 2:
        raise DataError(f"{where} has only one class, {reprlib.repr(labels[0])}; two are needed")
    if known is None and len(classes) > max(MANY_CLASSES, len(labels) / 2):
        raise DataError(
            f"{where} has {len(classes):,} classes in {len(labels):,} rows, too few of each to learn from; is it a "
            "column of numbers or names?"
        )
    check_names(where, list(classes.values()))
    return classes


def _numbers(split: str, column: str, labels: Sequence[Any], classes: Sequence[Any]) -> list[int]:
    numbers = {value: number for number, value in enumerate(classes)}
    unknown = [(row, value) for row, value in enumerate(labels, start=1) if value not in numbers]
    if not unknown:
        return [numbers[value] for value in labels]
    if all(value == -1 for value in labels):
        raise DataError(
            f'column "{column}" of the {split} split is -1 in every row: it has no labels, so it can\'t be scored; '
            "leave the split out"
        )
    row, value = unknown[0]
    choices = ", ".join(map(reprlib.repr, classes[:20])) + (", …" if len(classes) > 20 else "")
    raise DataError(
        f'column "{column}" of the {split} split holds {reprlib.repr(value)} in row {row:,} '
        f"({_rows(len(unknown))} of this kind in all), which is no class of the train split; those are {choices}"
    )
