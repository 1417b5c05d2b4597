"""transformers' own Trainer on the examples of a recipe: as its examples use it, and tuned by hand."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from hand_written import device
from transformers import (
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
)

from finetune.recipe import Recipe
from finetune.tasks.encoding import EncodedSplit
from finetune.training.material import Library, training_examples
from finetune.training.precision import resolve_precision


class _Examples(torch.utils.data.Dataset[dict[str, Any]]):
    """Encoded examples as lists, each padded to `width` tokens where that is given."""

    def __init__(self, split: EncodedSplit, tokenizer: Any, width: int | None) -> None:
        self._rows = []
        for example in split:
            row = {name: values.tolist() for name, values in example.items()}
            if width is not None:
                row = tokenizer.pad(row, padding="max_length", max_length=width)
            self._rows.append(dict(row) | {"attention_mask": row.get("attention_mask") or [1] * len(row["input_ids"])})

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._rows[index]


class _Times(TrainerCallback):
    def __init__(self, synchronised_at: set[int]) -> None:
        self.times: list[float] = []
        self._synchronised_at = synchronised_at

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        if torch.cuda.is_available() and len(self.times) + 1 in self._synchronised_at:
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())


def train(
    recipe: Recipe, library: Library, *, updates: int, tuned: bool, folder: str, synchronised_at: set[int]
) -> Iterator[float]:
    """Yields the time at which each update of a Trainer's run is done.

    As transformers' examples have it (run_glue.py): fp32, every text padded to the maximal length, batches drawn at
    random. `tuned`: bf16 where the hardware gains from it, texts of similar length together, padded to a multiple of 8.
    """
    material = library.material(recipe)
    width = None if tuned else recipe.task.max_length
    times = _Times(synchronised_at)
    better: dict[str, Any] = {
        "bf16": resolve_precision(recipe.training.precision, device()) == "bf16",
        "train_sampling_strategy": "group_by_length",
    }
    trainer = Trainer(
        model=library.model(recipe).model,
        args=TrainingArguments(
            output_dir=str(Path(folder) / "peer"),
            use_cpu=not torch.cuda.is_available(),
            max_steps=updates,
            per_device_train_batch_size=recipe.training.batch_size,
            learning_rate=recipe.optimizer.learning_rate,
            report_to="none",
            disable_tqdm=True,
            save_strategy="no",
            logging_strategy="no",
            **(better if tuned else {}),
        ),
        train_dataset=_Examples(training_examples(recipe, material), material.processor, width),
        data_collator=DataCollatorWithPadding(material.processor, pad_to_multiple_of=8)
        if tuned
        else default_data_collator,
        callbacks=[times],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    yield from times.times
