"""SentenceTransformerTrainer with any schedule: ScheduleMixin before it, and `schedule=`.

The trainers of cross-encoders and sparse encoders take it in the same way.

Run:     python scripts/examples/sentence_transformers_trainer.py
"""

import tempfile

import torch
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer, models, pre_tokenizers

from finetune.schedules import ScheduleMixin, make_schedule

GOOD = "brilliant charming clever funny graceful moving".split()
BAD = "awful bland boring clumsy dreary dull".split()


class ScheduledSentenceTransformerTrainer(ScheduleMixin, SentenceTransformerTrainer):
    """SentenceTransformerTrainer that takes `schedule`."""


def make_model() -> SentenceTransformer:
    """Returns an embedding of 16 numbers for each word, averaged over a text."""
    words = {word: number for number, word in enumerate(["[UNK]", "film", *GOOD, *BAD])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=16)], device="cpu")


def make_pairs() -> Dataset:
    """Returns pairs of texts, alike (1) where both praise or both complain."""
    words = GOOD + BAD
    pairs = [(one, other) for one in words for other in words if one < other]
    return Dataset.from_dict(
        {
            "one": [f"{one} film" for one, _ in pairs],
            "other": [f"{other} film" for _, other in pairs],
            "score": [float((one in GOOD) == (other in GOOD)) for one, other in pairs],
        }
    )


def main() -> list[float]:
    """Trains, prints every update, and returns each update's rate."""
    torch.manual_seed(0)
    model = make_model()
    with tempfile.TemporaryDirectory() as folder:
        trainer = ScheduledSentenceTransformerTrainer(
            model=model,
            args=SentenceTransformerTrainingArguments(
                output_dir=folder,
                learning_rate=5e-2,
                num_train_epochs=4,
                per_device_train_batch_size=16,
                logging_steps=1,
                save_strategy="no",
                use_cpu=True,
                dataloader_pin_memory=False,
                disable_tqdm=True,
            ),
            train_dataset=make_pairs(),
            loss=CosineSimilarityLoss(model),
            schedule=make_schedule("linear", warmup="20%"),
        )
        trainer.train()
    log = [row for row in trainer.state.log_history if "loss" in row]
    rates, losses = [row["learning_rate"] for row in log], [row["loss"] for row in log]
    print(f"{len(rates)} updates: rate {rates[0]:.6f} at first, {max(rates):.6f} at its peak, {rates[-1]:.6f} at last")
    print(f"loss {losses[0]:.4f} at first, {losses[-1]:.4f} at last")
    return rates


if __name__ == "__main__":
    main()
