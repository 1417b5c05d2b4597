"""The leanest loop there is: what the benchmarks compare a run with.

bf16 autocast where the recipe's precision is, fused AdamW, gradient clipping, the same padded batches in the same
order; no schedule, no logging, no record.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader

from finetune.recipe import Recipe
from finetune.tasks.encoding import EncodedSplit
from finetune.training.batches import TrainingLoader
from finetune.training.layout import layout_of
from finetune.training.material import Library
from finetune.training.plan import lay_out_updates
from finetune.training.precision import resolve_precision


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(recipe: Recipe) -> torch.autocast:
    where = device()
    precision = resolve_precision(recipe.training.precision, where)
    return torch.autocast(where.type, torch.bfloat16, enabled=precision == "bf16")


def train(model: torch.nn.Module, recipe: Recipe, library: Library, *, updates: int) -> Iterator[int]:
    """Trains `model`, which is on the device, and yields how many updates are made after each."""
    where = device()
    examples, batches, _ = lay_out_updates(recipe, layout=layout_of(recipe), library=library)
    collator = recipe.task.collator(library.material(recipe).processor)
    loader = TrainingLoader(examples, batches, collator, workers=0, pin_memory=where.type == "cuda")
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.optimizer.learning_rate, fused=True)
    model.train()
    for made, batch in zip(range(1, updates + 1), _endlessly(loader), strict=False):
        inputs = {name: tensor.to(where, non_blocking=True) for name, tensor in batch.items()}
        with autocast(recipe):
            loss = model(**inputs).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.training.gradient_clipping)
        optimizer.step()
        optimizer.zero_grad()
        yield made


def _endlessly(loader: TrainingLoader) -> Iterator[dict[str, torch.Tensor]]:
    epoch = 0
    while True:
        loader.set_epoch(epoch)
        yield from loader
        epoch += 1


@torch.inference_mode()
def accuracy(model: torch.nn.Module, recipe: Recipe, library: Library, split: EncodedSplit) -> float:
    """Returns the share of `split` that `model` gets right."""
    collator = recipe.task.collator(library.material(recipe).processor)
    right = 0
    model.eval()
    for batch in DataLoader(split.sorted_by_length(), recipe.evaluation.batch_size, collate_fn=collator):
        inputs = {name: tensor.to(device()) for name, tensor in batch.items()}
        with autocast(recipe):
            logits = model(**inputs).logits
        right += int((logits.argmax(dim=-1) == inputs["labels"]).sum())
    model.train()
    return right / len(split)
