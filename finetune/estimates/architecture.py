"""The model of a recipe as its configuration makes it, without weights, and the longest example that it is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from finetune.estimates.passes import Batch
from finetune.tasks.pretrained import Pretrained
from finetune.training.adapters import add_adapter
from finetune.training.cache import Cache, cache_folder
from finetune.training.layer_preparation import prepare_layers
from finetune.training.material import draw, load_rows
from finetune.training.noise import add_noise

if TYPE_CHECKING:
    from finetune.recipe import Recipe
    from finetune.training.material import RawData

MOST_ENCODED = 64
"""How many examples of train, those of most characters, are encoded to find the longest."""
MOST_COLLATED = 8


@dataclass(frozen=True)
class Architecture:
    """A recipe's model on the meta device, with the batch of its longest example.

    `padded`: whether batches have padding; `tokens`: how many a sequence has, None where there are none.
    """

    model: torch.nn.Module
    batch: Batch
    padded: bool
    tokens: int | None


def architecture_of(recipe: Recipe, data: RawData) -> Architecture:
    """Returns the architecture of `recipe`, whose data are `data`; raises FinetuneError where it can't be had."""
    source = Pretrained(
        str(recipe.model.path or recipe.model.hub),
        revision=recipe.model.revision,
        local=recipe.model.path is not None,
        dropout=recipe.regularisation.dropout if recipe.regularisation else None,
        without_weights=True,
    )
    processor = recipe.task.load_processor(source)
    seed = recipe.training.seed
    loaded = recipe.task.load_model(source, classes=data.classes, processor=processor, seed=seed)
    if recipe.adapter is not None:
        add_adapter(loaded, recipe.adapter, seed=seed)
    model: Any = loaded.model
    prepare_layers(model, recipe)
    model.to("meta")
    if recipe.regularisation is not None and recipe.regularisation.neftune is not None:
        add_noise(model, alpha=recipe.regularisation.neftune)
    collated, batch = _batches(recipe, data, processor)
    mask, ids = collated.get("attention_mask"), batch.get("input_ids")
    return Architecture(
        model=model,
        batch=batch,
        padded=mask is not None and not bool(mask.all()),
        tokens=None if ids is None else ids.shape[-1],
    )


def _batches(recipe: Recipe, data: RawData, processor: Any) -> tuple[Batch, Batch]:
    """Returns a batch of a few of the longest examples, and one of the longest alone."""
    rows = load_rows(recipe, Cache(cache_folder()))["train"].select(_longest(recipe, data))
    examples = recipe.task.read_for(rows, data.classes, labelled=True)
    ordered = recipe.task.encode(examples, processor).sorted_by_length()
    collate = recipe.task.collator(processor)
    few = [ordered[place] for place in range(min(len(ordered), MOST_COLLATED))]
    return collate(few), collate(few[:1])


def _longest(recipe: Recipe, data: RawData) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Returns the numbers of the longest of the examples that the recipe draws, by their characters."""
    outline = recipe.task.outline(data.examples["train"], data.classes)
    used = recipe.data.examples.get("train", outline.count) if recipe.task.one_to_one else outline.count
    drawn = draw(outline.count, used, seed=recipe.training.seed)
    if not outline.texts:
        return drawn[:MOST_ENCODED]
    lengths = _characters(outline.texts).reshape(-1, outline.sequences).max(axis=1)[drawn]
    return np.sort(drawn[np.argsort(-lengths, kind="stable")[:MOST_ENCODED]])


def _characters(texts: Sequence[Sequence[str]]) -> np.ndarray[Any, np.dtype[np.int64]]:
    lengths = (np.fromiter(map(len, part), dtype=np.int64, count=len(part)) for part in texts)
    total: np.ndarray[Any, np.dtype[np.int64]] = np.stack(list(lengths)).sum(axis=0)
    return total
