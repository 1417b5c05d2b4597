"""Text regression: a number for each sentence or pair of sentences, as a rating or a similarity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from finetune.errors import DataError
from finetune.tasks.base import Judgement, Outline
from finetune.tasks.columns import GIVEN, check_columns, numbers_of
from finetune.tasks.labelled_texts import LabelledTexts, TextTask

if TYPE_CHECKING:
    import torch

    from finetune.data import Rows
    from finetune.metrics.answers import Form
    from finetune.tasks.base import Array, Outputs
    from finetune.tasks.pretrained import LoadedModel, Pretrained


@dataclass(frozen=True, kw_only=True)
class TextRegression(TextTask):
    """Settings. `text`, `text_pair`, `label`: column names; `max_length`: tokens kept per example, pair included.

    The numbers are trained on as they stand. A new head answers with numbers near 0, so those far from it take long.
    """

    form: ClassVar[Form] = "numbers"
    metrics: ClassVar[tuple[str, ...]] = ("pearson", "spearman", "rmse")

    problem_type: ClassVar[str] = "regression"

    name: Literal["text_regression"] = "text_regression"

    def read(self, splits: Mapping[str, Rows]) -> tuple[tuple[str, ...], dict[str, LabelledTexts]]:
        """Returns (), and split ▶ its examples with float64 labels.

        Raises DataError for a missing column, an empty split, an empty cell, texts that aren't text, labels that aren't
        finite numbers, and for labels that are all one number: nothing can be told from them, nor correlated with them.
        """
        examples = {split: self._examples(split, rows) for split, rows in splits.items()}
        for split, each in examples.items():
            _check_that_they_vary(split, self.label, each.labels)
        return (), examples

    def read_for(self, rows: Rows, classes: Sequence[str], *, labelled: bool) -> LabelledTexts:
        """As the base's; the labels of a few rows may be all one number."""
        import numpy as np

        if labelled:
            return self._examples(GIVEN, rows)
        check_columns(GIVEN, rows, self.text_columns)
        return self.with_texts(GIVEN, rows, np.zeros(len(rows)))

    def _examples(self, split: str, rows: Rows) -> LabelledTexts:
        check_columns(split, rows, self.columns)
        return self.with_texts(split, rows, numbers_of(split, rows, self.label))

    def outline(self, examples: LabelledTexts, classes: Sequence[str]) -> Outline:
        """Returns how many examples there are, and the texts."""
        return Outline(len(examples), {}, examples.parts)

    def load_model(self, source: Pretrained, *, classes: Sequence[str], processor: Any, seed: int) -> LoadedModel:
        """Returns the pretrained encoder under a new head of one output."""
        from transformers import AutoModelForSequenceClassification

        from finetune.tasks.pretrained import load_model

        return load_model(
            AutoModelForSequenceClassification,
            source,
            seed=seed,
            num_labels=1,
            pad_token_id=processor.pad_token_id,
            problem_type=self.problem_type,
        )

    def training_loss(
        self, outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Returns the squared error of `outputs.logits`, shape (n, 1), against n numbers, as the base."""
        import torch

        total = torch.nn.functional.mse_loss(outputs.logits.float().squeeze(-1), labels.float(), reduction="sum")
        return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)

    def judge(self, outputs: Outputs, split: Any, classes: Sequence[str]) -> Judgement:
        """Returns the mean squared error, and the numbers predicted, float64."""
        import numpy as np

        from finetune.metrics.answers import Answers

        predicted = _predicted(outputs)
        return Judgement(
            float(np.mean((predicted - split.labels) ** 2)),
            Answers("numbers", predicted, np.asarray(split.labels, dtype=np.float64)),
        )

    def label_columns(self, split: Any, classes: Sequence[str]) -> dict[str, Any]:
        """Returns each example's number."""
        return {"label": split.labels}

    def prediction_columns(self, outputs: Outputs, split: Any, classes: Sequence[str]) -> dict[str, Any]:
        """Returns the predicted numbers."""
        return {"prediction": _predicted(outputs)}


def _check_that_they_vary(split: str, column: str, labels: Any) -> None:
    """Raises DataError where all `labels` of a split are one number."""
    if labels.min() == labels.max():
        raise DataError(
            f'column "{column}" of the {split} split is {labels[0]:g} in every row: nothing can be learnt from it, and '
            "no correlation with it is defined; give the column of numbers, or leave the split out"
        )


def _predicted(outputs: Outputs) -> Array:
    import numpy as np

    return outputs["logits"][:, 0].astype(np.float64)
