"""Text classification: one label per sentence or pair of sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from finetune.errors import SettingError
from finetune.tasks.columns import Labels, check_columns, texts_of

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PreTrainedTokenizerBase

    from finetune.data import Keep, Rows
    from finetune.tasks.encoding import EncodedSplit, Padding
    from finetune.tasks.pretrained import LoadedModel, Pretrained


@dataclass(frozen=True)
class LabelledTexts:
    """The examples of one split: texts, their second parts for pairs, and class numbers.

    Texts of `read` are made when they are asked for; they may be more than memory holds.
    """

    texts: Sequence[str]
    pairs: Sequence[str] | None
    labels: Sequence[int] | np.ndarray[Any, np.dtype[np.int64]]


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
            check_columns(split, rows, self.columns)
        labels = {split: Labels.of(split, rows, self.label) for split, rows in splits.items()}
        classes = labels["train"].classes()
        examples = {}
        for split, rows in splits.items():
            examples[split] = LabelledTexts(
                texts=texts_of(split, rows, self.text),
                pairs=None if self.text_pair is None else texts_of(split, rows, self.text_pair),
                labels=labels[split].numbers(list(classes)),
            )
        return tuple(classes.values()), examples

    def cautions(self, splits: Mapping[str, LabelledTexts], classes: Sequence[str]) -> list[str]:
        """Returns what is wrong with the examples of `read` but isn't refused: leaks, repetitions, blank texts."""
        from finetune.tasks.cautions import find_cautions

        return find_cautions(splits, classes)

    def encode(
        self,
        examples: LabelledTexts,
        tokenizer: PreTrainedTokenizerBase,
        *,
        fingerprint: str | None = None,
        keep: Keep | None = None,
    ) -> EncodedSplit:
        """Returns the examples tokenised and cut to `max_length`.

        `keep`: keeps the tokens for another time, of examples known by the `fingerprint` of their columns.
        """
        from finetune.tasks.encoding import EncodedSplit, encode_texts
        from finetune.tasks.kept_tokens import kept_tokens

        settings: dict[str, Any] = {"tokenizer": tokenizer, "max_length": self.max_length}
        if keep is not None and fingerprint is not None:
            kept = kept_tokens(examples.texts, examples.pairs, fingerprint=fingerprint, keep=keep, **settings)
            if kept is not None:
                return EncodedSplit.of(kept, examples.labels)
        return encode_texts(examples.texts, examples.pairs, examples.labels, **settings)

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
