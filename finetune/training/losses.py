"""What is trained on where a recipe smooths labels or weighs classes; evaluations know nothing of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from finetune.errors import DataError, listed
from finetune.recipe.regularisation import BALANCED
from finetune.tasks.encoding import NO_LABEL

if TYPE_CHECKING:
    from finetune.recipe import Recipe
    from finetune.tasks.base import Split, Task

Loss = Callable[..., torch.Tensor]


@dataclass(frozen=True)
class ClassLoss:
    """The cross-entropy of a task's class logits, in fp32, with smoothed labels and weighted classes.

    Σ [(1 − ε)·w_y·(−log p_y) + ε/C · Σ_c w_c·(−log p_c)] / Σ w_y over the labels y that count, with ε = `smoothing` and
    w = `weights`, shape (C,), 1 where None: torch's CrossEntropyLoss. Its denominator is that of the whole batch of an
    update: `count` of every micro-batch on every process together, which the trainer gives as `num_items_in_batch`. So
    the gradient is that of the batch however it is cut; were each part divided by its own weights, a part of common
    classes alone would count as if none had a weight.
    """

    task: Task
    smoothing: float = 0.0
    weights: torch.Tensor | None = None

    def __call__(
        self, outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Returns the loss of a micro-batch: its sum over `num_items_in_batch`, or where None over its own count."""
        logits, numbers = self.task.class_logits(outputs, labels)
        total = torch.nn.functional.cross_entropy(
            logits.float(),
            numbers,
            weight=None if self.weights is None else self.weights.to(logits.device),
            label_smoothing=self.smoothing,
            ignore_index=NO_LABEL,
            reduction="sum",
        )
        count = self.count(numbers) if num_items_in_batch is None else num_items_in_batch
        return total / (count + (count == 0))  # of a language model a whole batch may have no token that counts

    def count(self, labels: torch.Tensor) -> torch.Tensor:
        """Returns the sum of the weights of `labels`, of any shape; their number without weights."""
        counting = labels.ne(NO_LABEL)
        return counting.sum() if self.weights is None else self.weights.to(labels.device)[labels[counting]].sum()


def training_loss(recipe: Recipe, *, classes: Sequence[str], train: Split) -> Loss:
    """Returns the task's own loss, or the one that the recipe's regularisation makes of it.

    `train`: what is trained on, by which balanced weights are reckoned. Raises DataError for a class that it lacks.
    """
    settings = recipe.regularisation
    if settings is None or (settings.label_smoothing is None and settings.class_weights is None):
        return recipe.task.training_loss
    weights = None
    if settings.class_weights == BALANCED:
        weights = _balanced(recipe.task.label_counts(train, classes).tolist(), classes)
    elif isinstance(settings.class_weights, Mapping):
        weights = [settings.class_weights.get(name, 1.0) for name in classes]
    return ClassLoss(
        recipe.task,
        smoothing=settings.label_smoothing or 0.0,
        weights=None if weights is None else torch.tensor(weights, dtype=torch.float32),
    )


def _balanced(counts: Sequence[int], classes: Sequence[str]) -> list[float]:
    """Returns n / (C · n_c) for each class, whose mean over the n labels is 1."""
    missing = [name for name, count in zip(classes, counts, strict=True) if not count]
    if missing:
        raise DataError(
            "regularisation.class_weights: balanced weights need a label of every class to train on, and there is "
            f"none of {listed(missing)}; give weights by name, or more examples"
        )
    return [sum(counts) / (len(counts) * count) for count in counts]
