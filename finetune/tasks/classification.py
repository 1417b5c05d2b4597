"""One class for each example, whatever an example is: what logits of shape (n, classes) come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from finetune.tasks.base import Judgement, Task

if TYPE_CHECKING:
    import torch

    from finetune.metrics.answers import Form
    from finetune.tasks.base import Array, Outputs


@dataclass(frozen=True, kw_only=True)
class Classification(Task):
    """A task whose splits have `labels`, n class numbers, and whose model has a logit for each class."""

    form: ClassVar[Form] = "classes"
    metrics: ClassVar[tuple[str, ...]] = ("accuracy",)
    loss_over_classes: ClassVar[bool] = True
    has_named_classes: ClassVar[bool] = True

    def training_loss(
        self, outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Returns the cross-entropy of `outputs.logits`, shape (n, classes), against n class numbers, as the base."""
        import torch

        total = torch.nn.functional.cross_entropy(outputs.logits.float(), labels, reduction="sum")
        return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)

    def class_logits(self, outputs: Any, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the model's logits, and the labels as they are."""
        return outputs.logits, labels

    def label_counts(self, split: Any, classes: Sequence[str]) -> Array:
        """Returns how many examples of `split` are of each class."""
        import numpy as np

        return np.bincount(split.labels, minlength=len(classes))

    def judge(self, outputs: Outputs, split: Any, classes: Sequence[str]) -> Judgement:
        """Returns the mean cross-entropy, in nats, and the class of the largest logit of each example."""
        from finetune.metrics.answers import Answers

        logits = outputs["logits"]
        answers = Answers(
            "classes", logits.argmax(axis=-1), split.labels, scores=probabilities(logits), names=tuple(classes)
        )
        return Judgement(cross_entropy(logits, split.labels), answers)

    def label_columns(self, split: Any, classes: Sequence[str]) -> dict[str, Any]:
        """Returns each example's class."""
        return {"label": [classes[number] for number in split.labels]}

    def prediction_columns(self, outputs: Outputs, split: Any, classes: Sequence[str]) -> dict[str, Any]:
        """Returns the predicted class, and each class's probability."""
        shares = probabilities(outputs["logits"])
        columns: dict[str, Any] = {"prediction": [classes[number] for number in outputs["logits"].argmax(axis=-1)]}
        return columns | {f"probability_{name}": shares[:, number] for number, name in enumerate(classes)}


def probabilities(logits: Array) -> Array:
    """Returns the softmax of logits over the last axis, float64."""
    import numpy as np

    powers: Array = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    powers /= powers.sum(axis=-1, keepdims=True)
    return powers


def cross_entropy(logits: Array, labels: Array) -> float:
    """Returns the mean cross-entropy, in nats, of logits of shape (n, classes) against n class numbers."""
    import numpy as np

    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    chosen = np.take_along_axis(shifted, labels[:, None], axis=-1)[:, 0]
    return float(np.mean(np.log(np.exp(shifted).sum(axis=-1)) - chosen))
