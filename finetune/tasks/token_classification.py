"""Token classification: a tag for each word of a sentence, as for the names, or the parts of speech, in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from finetune.tasks.base import Judgement, Outline, Task
from finetune.tasks.columns import GIVEN, check_columns, check_length_setting

if TYPE_CHECKING:
    import torch

    from finetune.data import Keep, Rows
    from finetune.metrics.answers import Form
    from finetune.tasks.base import Array, Outputs
    from finetune.tasks.encoding import Padding
    from finetune.tasks.pretrained import LoadedModel, Pretrained
    from finetune.tasks.tagged_tokens import TaggedSplit
    from finetune.tasks.tagged_words import TaggedWords


@dataclass(frozen=True, kw_only=True)
class TokenClassification(Task):
    """Settings. `tokens`, `tags`: columns of lists, words and a tag for each; `max_length`: tokens kept per example.

    The first of a word's tokens is trained on and answers for it. With `label_all` the others are trained on too: with
    the same tag or, where it is a B-TYPE, the I-TYPE.
    """

    form: ClassVar[Form] = "tags"
    metrics: ClassVar[tuple[str, ...]] = ("entity_f1", "entity_precision", "entity_recall", "token_accuracy")
    loss_over_classes: ClassVar[bool] = True
    has_named_classes: ClassVar[bool] = True

    name: Literal["token_classification"] = "token_classification"
    tokens: str = "tokens"
    tags: str = "tags"
    max_length: int = 128
    label_all: bool = False

    def __post_init__(self) -> None:
        check_length_setting(self.max_length)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read, in order."""
        return (self.tokens, self.tags)

    def read(self, splits: Mapping[str, Rows]) -> tuple[tuple[str, ...], dict[str, TaggedWords]]:
        """Returns the names of the tags, and split ▶ its words with tags as positions in those names.

        The names are those of a ClassLabel of `datasets` in the train split's lists, else their values, sorted; other
        splits are matched by name. Raises DataError for a missing column, an empty split or cell, words that aren't
        text, a row without words, or with more or fewer tags than words, numbers that stand for no names, names that
        are none or look alike, fewer than two tags, and one that the train split doesn't have.
        """
        from finetune.tasks.tagged_words import TaggedWords, tags_of, words_of

        for split, rows in splits.items():
            check_columns(split, rows, self.columns)
        words = {split: words_of(split, rows, self.tokens) for split, rows in splits.items()}
        tags = {split: tags_of(split, rows, self.tags, words[split]) for split, rows in splits.items()}
        classes = tags["train"].classes()
        names = tuple(classes.values())
        numbers = {split: each.numbers(list(classes)) for split, each in tags.items()}
        return names, {split: TaggedWords(words[split], numbers[split], names) for split in splits}

    def read_for(self, rows: Rows, classes: Sequence[str], *, labelled: bool) -> TaggedWords:
        """As the base's; tags are matched by their names."""
        import numpy as np

        from finetune.tasks.tagged_words import TaggedWords, tags_of, words_of

        check_columns(GIVEN, rows, self.columns if labelled else (self.tokens,))
        words = words_of(GIVEN, rows, self.tokens)
        if not labelled:
            return TaggedWords(words, np.zeros(words.count, dtype=np.int64), tuple(classes))
        tags = tags_of(GIVEN, rows, self.tags, words)
        return TaggedWords(words, tags.numbers_by_name(classes), tuple(classes))

    def outline(self, examples: TaggedWords, classes: Sequence[str]) -> Outline:
        """Returns how many examples have a word of each tag, and the words, joined by spaces."""
        return Outline(len(examples), examples.examples_of_each(), (examples.texts,))

    def cautions(self, splits: Mapping[str, TaggedWords], classes: Sequence[str]) -> list[str]:
        """Returns what is wrong with the examples of `read` but isn't refused: leaks and repetitions."""
        from finetune.tasks.cautions import find_cautions
        from finetune.tasks.labelled_texts import LabelledTexts

        return find_cautions(
            {split: LabelledTexts(each.texts, None, each.fingerprints()) for split, each in splits.items()}, classes
        )

    def load_processor(self, source: Pretrained) -> Any:
        """Returns the model's own tokenizer, set to take words; raises ModelError where it can't tell them apart."""
        from finetune.tasks.tagged_tokens import load_tokenizer_of_words

        return load_tokenizer_of_words(source, max_length=self.max_length)

    def encode(
        self, examples: TaggedWords, processor: Any, *, fingerprint: str | None = None, keep: Keep | None = None
    ) -> TaggedSplit:
        """Returns the words tokenised and cut to `max_length`, as the base's."""
        from finetune.tasks.kept_tokens import tokens_of
        from finetune.tasks.tagged_tokens import TaggedSplit, tokenise_words

        settings: dict[str, Any] = {"tokenizer": processor, "max_length": self.max_length}
        tokens = tokens_of(
            lambda: tokenise_words(examples, label_all=self.label_all, **settings),
            made={"tags": list(examples.names), "label_all": self.label_all},
            fingerprint=fingerprint,
            keep=keep,
            **settings,
        )
        return TaggedSplit.of(tokens, None, examples=examples)

    def collator(self, processor: Any) -> Padding:
        """Returns what makes a batch of examples: padding on the right, where it moves no token from its place."""
        from dataclasses import replace

        from finetune.tasks.encoding import NO_LABEL, Padding

        return replace(Padding.of(processor, labels=NO_LABEL), side="right")

    def load_model(self, source: Pretrained, *, classes: Sequence[str], processor: Any, seed: int) -> LoadedModel:
        """Returns the pretrained encoder under a new head, the names of the tags stored in its config."""
        from finetune.tasks.pretrained import load_classifier

        return load_classifier(
            "AutoModelForTokenClassification",
            source,
            classes=classes,
            seed=seed,
            pad_token_id=processor.pad_token_id,
        )

    def training_loss(
        self, outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Returns the cross-entropy of logits, shape (n, tokens, tags), against tags, (n, tokens), as the base."""
        from finetune.tasks.encoding import NO_LABEL

        count = (labels != NO_LABEL).sum() if num_items_in_batch is None else num_items_in_batch
        return _negative_log_likelihoods(outputs.logits, labels).sum() / count

    def class_logits(self, outputs: Any, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the logits and the tags of all tokens of a batch, end to end, −100 where they have none."""
        return outputs.logits.flatten(0, 1), labels.flatten()

    def label_counts(self, split: TaggedSplit, classes: Sequence[str]) -> Array:
        """Returns how many tokens of `split` are trained on with each tag."""
        import numpy as np

        return np.bincount(split.labels_of_tokens(), minlength=len(classes))

    def kept_outputs(self, outputs: Any, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Returns the likeliest tag of each token, and the summed loss of each example's tags."""
        import torch

        losses = _negative_log_likelihoods(outputs.logits, labels)
        return {"tags": outputs.logits.argmax(dim=-1).to(torch.int32), "losses": losses.sum(dim=-1)}

    def judge(self, outputs: Outputs, split: TaggedSplit, classes: Sequence[str]) -> Judgement:
        """Returns the mean cross-entropy of the tags that count, in nats, and the tag predicted of each word.

        Words that no token stands for, having been cut off or being nothing to the tokenizer, are predicted "O".
        """
        import numpy as np

        from finetune.metrics.answers import Answers

        loss = float(outputs["losses"].sum(dtype=np.float64)) / len(split.labels_of_tokens())
        return Judgement(loss, Answers("tags", split.predicted(outputs["tags"]), split.true()))

    def label_columns(self, split: TaggedSplit, classes: Sequence[str]) -> dict[str, Any]:
        """Returns the list of each example's tags."""
        return {"label": split.true()}

    def prediction_columns(self, outputs: Outputs, split: TaggedSplit, classes: Sequence[str]) -> dict[str, Any]:
        """Returns the list of the tags predicted of each example's words."""
        return {"prediction": split.predicted(outputs["tags"])}


def _negative_log_likelihoods(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Returns the loss at each token, shape (n, tokens), 0 where it has no label."""
    import torch

    return torch.nn.functional.cross_entropy(logits.float().transpose(1, 2), labels, reduction="none")
