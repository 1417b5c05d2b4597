"""transformers.Trainer with any schedule: two lines, a class with ScheduleMixin before Trainer, and `schedule=`.

TrainingArguments.learning_rate is the peak. Leave `lr_scheduler_type` and `warmup_steps` alone: the schedule says it
all.

Run:     python scripts/examples/trainer.py
"""

import tempfile

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from finetune.schedules import ScheduleMixin, make_schedule


class ScheduledTrainer(ScheduleMixin, Trainer):
    """Trainer that takes `schedule`."""


def make_data(examples: int = 64) -> list[dict[str, list[int] | int]]:
    """Returns sequences of 8 tokens; the class says whether the first is one of the upper half."""
    tokens = torch.randint(0, 20, (examples, 8), generator=torch.Generator().manual_seed(0)).tolist()
    return [{"input_ids": row, "labels": int(row[0] >= 10)} for row in tokens]


def main() -> list[float]:
    """Trains, prints every update, and returns each update's rate."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=20, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, num_labels=2
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = ScheduledTrainer(
            model=BertForSequenceClassification(config),
            args=TrainingArguments(
                output_dir=folder,
                learning_rate=5e-3,
                num_train_epochs=5,
                per_device_train_batch_size=16,
                logging_steps=1,
                save_strategy="no",
                use_cpu=True,
                dataloader_pin_memory=False,
                disable_tqdm=True,
            ),
            train_dataset=make_data(),
            schedule=make_schedule("cosine", warmup="10%", floor=0.1),
        )
        trainer.train()
    log = [row for row in trainer.state.log_history if "loss" in row]
    rates, losses = [row["learning_rate"] for row in log], [row["loss"] for row in log]
    print(f"{len(rates)} updates: rate {rates[0]:.6f} at first, {max(rates):.6f} at its peak, {rates[-1]:.6f} at last")
    print(f"loss {losses[0]:.4f} at first, {losses[-1]:.4f} at last")
    return rates


if __name__ == "__main__":
    main()
