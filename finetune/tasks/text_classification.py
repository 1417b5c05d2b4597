"""Text classification: one label per sentence or pair of sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from finetune.tasks.base import Outline
from finetune.tasks.classification import Classification
from finetune.tasks.columns import GIVEN, Labels, check_columns, check_length_setting, texts_of

if TYPE_CHECKING:
    import numpy as np

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

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def parts(self) -> tuple[Sequence[str], ...]:
        """The texts, and their second parts where there are pairs."""
        return (self.texts,) if self.pairs is None else (self.texts, self.pairs)


@dataclass(frozen=True, kw_only=True)
class TextClassification(Classification):
    """Settings. `text`, `text_pair`, `label`: column names; `max_length`: tokens kept per example, pair included."""

    name: Literal["text_classification"] = "text_classification"
    text: str = "text"
    text_pair: str | None = None
    label: str = "label"
    max_length: int = 128

    def __post_init__(self) -> None:
        check_length_setting(self.max_length)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read, in order."""
        return (*self._text_columns, self.label)

    @property
    def _text_columns(self) -> tuple[str, ...]:
        return (self.text,) if self.text_pair is None else (self.text, self.text_pair)

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
        return tuple(classes.values()), {
            split: self._examples(split, rows, labels[split].numbers(list(classes))) for split, rows in splits.items()
        }

    def read_for(self, rows: Rows, classes: Sequence[str], *, labelled: bool) -> LabelledTexts:
        """As the base's; labels are matched by the names of their classes."""
        import numpy as np

        check_columns(GIVEN, rows, self.columns if labelled else self._text_columns)
        if not labelled:
            return self._examples(GIVEN, rows, np.zeros(len(rows), dtype=np.int64))
        return self._examples(GIVEN, rows, Labels.of(GIVEN, rows, self.label).numbers_by_name(classes))

    def _examples(self, split: str, rows: Rows, labels: np.ndarray[Any, np.dtype[np.int64]]) -> LabelledTexts:
        return LabelledTexts(
            texts=texts_of(split, rows, self.text),
            pairs=None if self.text_pair is None else texts_of(split, rows, self.text_pair),
            labels=labels,
        )

    def outline(self, examples: LabelledTexts, classes: Sequence[str]) -> Outline:
        """Returns how many examples there are of each class, and the texts."""
        import numpy as np

        of_each = np.bincount(np.asarray(examples.labels), minlength=len(classes)).tolist()
        return Outline(len(examples), dict(zip(classes, of_each, strict=True)), examples.parts)

    def cautions(self, splits: Mapping[str, LabelledTexts], classes: Sequence[str]) -> list[str]:
        """Returns what is wrong with the examples of `read` but isn't refused: leaks, repetitions, blank texts."""
        from finetune.tasks.cautions import find_cautions

        return find_cautions(splits, classes)

    def encode(
        self, examples: LabelledTexts, processor: Any, *, fingerprint: str | None = None, keep: Keep | None = None
    ) -> EncodedSplit:
        """Returns the examples tokenised and cut to `max_length`, as the base's."""
        from finetune.tasks.encoding import EncodedSplit, tokenise
        from finetune.tasks.kept_tokens import tokens_of

        settings: dict[str, Any] = {"tokenizer": processor, "max_length": self.max_length}
        tokens = tokens_of(
            lambda: tokenise(examples.texts, examples.pairs, **settings),
            made={"pairs": examples.pairs is not None},
            fingerprint=fingerprint,
            keep=keep,
            **settings,
        )
        return EncodedSplit.of(tokens, examples.labels)

    def collator(self, processor: Any) -> Padding:
        """Returns what makes a batch of examples: dynamic padding."""
        from finetune.tasks.encoding import Padding

        return Padding.of(processor)

    def load_model(self, source: Pretrained, *, classes: Sequence[str], processor: Any, seed: int) -> LoadedModel:
        """Returns the pretrained encoder under a new head, the class names stored in its config."""
        from finetune.tasks.pretrained import load_classifier

        return load_classifier(
            "AutoModelForSequenceClassification",
            source,
            classes=classes,
            seed=seed,
            pad_token_id=processor.pad_token_id,
            problem_type="single_label_classification",
        )
