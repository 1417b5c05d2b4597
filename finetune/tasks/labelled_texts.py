"""What tasks of a label for each sentence, or pair of sentences, have in common, whatever a label is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from finetune.tasks.base import Task
from finetune.tasks.columns import check_length_setting, texts_of

if TYPE_CHECKING:
    from finetune.data import Keep, Rows
    from finetune.tasks.base import Array
    from finetune.tasks.encoding import EncodedSplit, Padding
    from finetune.tasks.pretrained import LoadedModel, Pretrained


@dataclass(frozen=True)
class LabelledTexts:
    """The examples of one split: n texts, their second parts for pairs, and labels of shape (n, …).

    Texts of `read` are made when they are asked for; they may be more than memory holds.
    """

    texts: Sequence[str]
    pairs: Sequence[str] | None
    labels: Sequence[int] | Array

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def parts(self) -> tuple[Sequence[str], ...]:
        """The texts, and their second parts where there are pairs."""
        return (self.texts,) if self.pairs is None else (self.texts, self.pairs)


@dataclass(frozen=True, kw_only=True)
class TextTask(Task):
    """Settings. `text`, `text_pair`, `label`: column names; `max_length`: tokens kept per example, pair included."""

    problem_type: ClassVar[str]
    """What transformers calls the problem that the model's head is for."""

    text: str = "text"
    text_pair: str | None = None
    label: str = "label"
    max_length: int = 128

    def __post_init__(self) -> None:
        check_length_setting(self.max_length)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read, in order."""
        return (*self.text_columns, *self.columns_of_labels)

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The columns of texts that are read, in order."""
        return (self.text,) if self.text_pair is None else (self.text, self.text_pair)

    @property
    def columns_of_labels(self) -> tuple[str, ...]:
        """The columns that labels are read from, in order."""
        return (self.label,)

    def with_texts(self, split: str, rows: Rows, labels: Array) -> LabelledTexts:
        """Returns the texts of a split and `labels`; raises DataError where one is missing or isn't text."""
        return LabelledTexts(
            texts=texts_of(split, rows, self.text),
            pairs=None if self.text_pair is None else texts_of(split, rows, self.text_pair),
            labels=labels,
        )

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
        """Returns the pretrained encoder under a new head, the names of its classes stored in its config."""
        from finetune.tasks.pretrained import load_classifier

        return load_classifier(
            "AutoModelForSequenceClassification",
            source,
            classes=classes,
            seed=seed,
            pad_token_id=processor.pad_token_id,
            problem_type=self.problem_type,
        )
