"""What a model says of the batches of a split, and of all of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

    from finetune.tasks.base import Array, Outputs, Split, Task


def kept_of_batch(task: Task, model: torch.nn.Module, inputs: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Returns what `task` keeps of the outputs of `model` on a batch of its collator's."""
    given = dict(inputs)
    labels = given.pop("labels")
    return {name: tensor.detach() for name, tensor in task.kept_outputs(model(**given), labels).items()}


def in_first_order(outputs: Outputs, split: Split) -> Outputs:
    """Returns the outputs on `split`, whose examples were put in another order, in the one that they were read in."""
    order = np.argsort(split.rows)
    return {name: array[order] for name, array in outputs.items()}


def joined(batches: Sequence[Array], *, padding: int) -> Array:
    """Returns the outputs of all batches; where their second dimensions differ, as long as the longest, padded."""
    if batches[0].ndim < 2:
        return np.concatenate(batches)
    width = max(batch.shape[1] for batch in batches)
    return np.concatenate([_widened(batch, width, padding) for batch in batches])


def _widened(batch: Array, width: int, padding: int) -> Array:
    if batch.shape[1] == width:
        return batch
    wide: Array = np.full((batch.shape[0], width, *batch.shape[2:]), padding, dtype=batch.dtype)
    wide[:, : batch.shape[1]] = batch
    return wide
