"""What language models have in common: a loss and scores of tokens, each counting once, whichever sequence it is in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from finetune.tasks.base import Judgement, Outline, Task
from finetune.tasks.columns import GIVEN, check_columns, texts_of

if TYPE_CHECKING:
    import numpy as np
    import torch

    from finetune.data import Rows
    from finetune.metrics.answers import Form
    from finetune.tasks.base import Outputs


@dataclass(frozen=True)
class Documents:
    """The texts of one split, called `split`; they may be more than memory holds."""

    split: str
    texts: Sequence[str]

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True, kw_only=True)
class LanguageModelling(Task):
    """A task whose labels are tokens: labels[t] is the one that the logits at t should give, −100 where none counts."""

    form: ClassVar[Form] = "tokens"
    metrics: ClassVar[tuple[str, ...]] = ("perplexity", "token_accuracy")
    loss_over_classes: ClassVar[bool] = True

    def read(self, splits: Mapping[str, Rows]) -> tuple[tuple[str, ...], dict[str, Any]]:
        """Returns no classes, and split ▶ its examples.

        Raises DataError for a missing column, an empty split, an empty cell, and cells that aren't what they should be.
        """
        for split, rows in splits.items():
            check_columns(split, rows, self.columns)
        return (), {split: self._examples(split, rows) for split, rows in splits.items()}

    def read_for(self, rows: Rows, classes: Sequence[str], *, labelled: bool) -> Any:
        """As the base's; the texts are their own labels, so they must be there in any case."""
        check_columns(GIVEN, rows, self.columns)
        return self._examples(GIVEN, rows)

    def _examples(self, split: str, rows: Rows) -> Any:
        (column,) = self.columns
        return Documents(split, texts_of(split, rows, column))

    def outline(self, examples: Any, classes: Sequence[str]) -> Outline:
        """Returns the texts."""
        return Outline(len(examples), {}, (examples.texts,))

    def cautions(self, splits: Mapping[str, Any], classes: Sequence[str]) -> list[str]:
        """Returns what is wrong with the examples of `read` but isn't refused: leaks, repetitions, blank texts."""
        from finetune.tasks.cautions import find_cautions

        return find_cautions({split: as_labelled(each.texts) for split, each in splits.items()}, ())

    def kept_outputs(self, outputs: Any, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Returns of each sequence the summed negative log-likelihood in nats, and how many tokens are right and count.

        They are "nll", float32, "right" and "counted", int64, each of shape (n,).
        """
        from finetune.tasks.token_losses import scores_of_each

        return scores_of_each(outputs.logits, labels)

    def training_loss(
        self, outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Returns the cross-entropy of `outputs.logits`, shape (n, tokens, vocabulary), as the base; 0 of no tokens."""
        import torch

        from finetune.tasks.encoding import NO_LABEL
        from finetune.tasks.token_losses import summed_loss

        total = summed_loss(outputs.logits, labels)
        count = labels.ne(NO_LABEL).sum() if num_items_in_batch is None else num_items_in_batch
        # A sequence may be so short that none of its tokens counts, and a batch may have no other.
        return total / (count.clamp(min=1) if isinstance(count, torch.Tensor) else max(count, 1))

    def class_logits(self, outputs: Any, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the logits of all tokens, shape (n · tokens, vocabulary), and their labels."""
        return outputs.logits.flatten(0, 1), labels.flatten()

    def judge(self, outputs: Outputs, split: Any, classes: Sequence[str]) -> Judgement:
        """Returns the mean negative log-likelihood of all tokens that count, in nats, and the sums of each sequence."""
        import numpy as np

        from finetune.metrics.answers import Answers

        sums, counted = outputs["nll"].astype(np.float64), outputs["counted"]
        tokens = int(counted.sum())
        return Judgement(
            float(sums.sum()) / tokens if tokens else math.nan,
            Answers("tokens", np.stack([sums, outputs["right"].astype(np.float64)], axis=-1), counted),
        )

    def label_columns(self, split: Any, classes: Sequence[str]) -> dict[str, Any]:
        """Returns how long each sequence is."""
        return {"length": split.lengths}

    def prediction_columns(self, outputs: Outputs, split: Any, classes: Sequence[str]) -> dict[str, Any]:
        """Returns how many tokens of each sequence count, how many are predicted right, and the sum of their losses."""
        return {
            "tokens": outputs["counted"],
            "tokens_right": outputs["right"],
            "negative_log_likelihood": outputs["nll"].astype(float),
        }


def as_labelled(texts: Sequence[str], pairs: Sequence[str] | None = None) -> Any:
    """Returns texts, which have no classes, as examples of one class, for those who look for what is repeated."""
    import numpy as np

    from finetune.tasks.labelled_texts import LabelledTexts

    labels: np.ndarray[Any, np.dtype[np.int64]] = np.broadcast_to(np.zeros(1, dtype=np.int64), len(texts))
    return LabelledTexts(texts, pairs, labels)
