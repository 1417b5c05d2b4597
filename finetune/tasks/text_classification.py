"""Text classification: one label per sentence or pair of sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from finetune.errors import DataError, SettingError, did_you_mean

if TYPE_CHECKING:
    import numpy as np
    import torch
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from finetune.tasks.encoding import EncodedSplit, Padding
    from finetune.tasks.pretrained import LoadedModel, Pretrained


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

    def read(self, splits: Mapping[str, Dataset]) -> tuple[tuple[str, ...], dict[str, LabelledTexts]]:
        """Returns the class names, and split ▶ its examples with labels as positions in those names.

        The names come from the label column's own (a ClassLabel feature), else from the values in `splits["train"]`,
        sorted. Raises DataError for a missing column, an empty split, nulls, texts that aren't text, labels that aren't
        classes, a single class, and a label that training never has.
        """
        for split, dataset in splits.items():
            _check_columns(split, dataset, self.columns)
        classes = _classes(splits["train"], self.label)
        numbers = {value: number for number, value in enumerate(classes.values)}
        examples = {}
        for split, dataset in splits.items():
            examples[split] = LabelledTexts(
                texts=_texts(split, dataset, self.text),
                pairs=None if self.text_pair is None else _texts(split, dataset, self.text_pair),
                labels=_label_numbers(split, dataset, self.label, numbers),
            )
        return classes.names, examples

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


@dataclass(frozen=True)
class _Classes:
    """The classes of a label column: the values that stand for them, and their names, in order."""

    values: tuple[Any, ...]
    names: tuple[str, ...]


def _check_columns(split: str, dataset: Dataset, columns: Sequence[str]) -> None:
    for column in columns:
        if column not in dataset.column_names:
            raise DataError(
                f'the {split} split has no column "{column}"; it has '
                f"{', '.join(dataset.column_names)}{did_you_mean(column, dataset.column_names)}"
            )
    if len(dataset) == 0:
        raise DataError(f"the {split} split is empty")
    for column in columns:
        nulls = [row for row, value in enumerate(_values(dataset, column)) if value is None]
        if nulls:
            raise DataError(
                f'column "{column}" of the {split} split has {len(nulls):,} nulls, the first in row {nulls[0] + 1:,}: '
                "fill or remove them"
            )


def _values(dataset: Dataset, column: str) -> list[Any]:
    # Dataset's own decoding turns nothing into None that isn't, but is slower by an order of magnitude.
    values: list[Any] = dataset.with_format("arrow")[:][column].to_pylist()
    return values


def _texts(split: str, dataset: Dataset, column: str) -> list[str]:
    dtype = str(getattr(dataset.features[column], "dtype", dataset.features[column]))
    if dtype not in {"string", "large_string"}:
        raise DataError(f'column "{column}" of the {split} split holds {dtype}, not text')
    return _values(dataset, column)


def _classes(dataset: Dataset, column: str) -> _Classes:
    from datasets import ClassLabel

    feature = dataset.features[column]
    if isinstance(feature, ClassLabel):
        return _Classes(tuple(range(len(feature.names))), tuple(feature.names))
    kind = str(getattr(feature, "dtype", feature))
    if not (kind in {"string", "large_string", "bool"} or kind.startswith(("int", "uint"))):
        raise DataError(
            f'column "{column}" of the train split holds {kind}; classes are whole numbers, true/false or strings'
        )
    values = tuple(sorted(set(_values(dataset, column))))
    if len(values) < 2:
        raise DataError(f'column "{column}" of the train split has only one class ({values[0]!r}); two are needed')
    return _Classes(values, tuple(str(value).lower() if isinstance(value, bool) else str(value) for value in values))


def _label_numbers(split: str, dataset: Dataset, column: str, numbers: Mapping[Any, int]) -> list[int]:
    values = _values(dataset, column)
    unknown = [(row, value) for row, value in enumerate(values) if value not in numbers]
    if unknown:
        row, value = unknown[0]
        why = (
            "it has no labels (-1), so it can't be scored: leave the split out"
            if all(value == -1 for _, value in unknown)
            else f"training never has it; the classes are {', '.join(map(str, list(numbers)[:20]))}"
        )
        raise DataError(
            f'column "{column}" of the {split} split holds {value!r} in row {row + 1:,} '
            f"({len(unknown):,} such rows): {why}"
        )
    return [numbers[value] for value in values]
