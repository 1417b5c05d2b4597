"""SetFit with any schedule: it fine-tunes the embedding in a Trainer of its own, and ScheduleMixin goes into that one.

setfit.Trainer isn't a transformers.Trainer. It makes one, `st_trainer`, for the embedding; the class below puts one
that takes `schedule` in its place. The schedule holds for the embedding, not for the head that is fitted after it.
SetFit warms up over a tenth of the updates by itself, which `warmup_proportion=0` turns off: here the schedule does.

Run:     python scripts/examples/setfit_trainer.py
"""

import tempfile
from typing import Any

import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from setfit import SetFitModel, Trainer, TrainingArguments
from setfit.model_card import ModelCardCallback
from setfit.trainer import BCSentenceTransformersTrainer
from sklearn.linear_model import LogisticRegression
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import TrainerCallback

from finetune.schedules import ScheduleMixin, make_schedule

GOOD = "brilliant charming clever funny graceful moving".split()
BAD = "awful bland boring clumsy dreary dull".split()


class ScheduledEmbeddingTrainer(ScheduleMixin, BCSentenceTransformersTrainer):
    """SetFit's Trainer of the embedding, which takes `schedule`."""


class ScheduledSetFitTrainer(Trainer):
    """setfit.Trainer that takes `schedule`."""

    def __init__(
        self, *args: Any, schedule: Any, callbacks: list[TrainerCallback] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.st_trainer = ScheduledEmbeddingTrainer(
            setfit_model=self.model,
            setfit_args=self.args,
            callbacks=[*(callbacks or []), ModelCardCallback(self)],
            schedule=schedule,
        )


def make_model() -> SetFitModel:
    """Returns an embedding of 16 numbers for each word, averaged over a text, with logistic regression on top."""
    words = {word: number for number, word in enumerate(["[UNK]", "film", *GOOD, *BAD])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    body = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=16)], device="cpu")
    return SetFitModel(model_body=body, model_head=LogisticRegression())


def main() -> list[float]:
    """Trains, prints every update, and returns each update's rate."""
    torch.manual_seed(0)
    data = Dataset.from_dict({"text": [f"{word} film" for word in GOOD + BAD], "label": [1] * 6 + [0] * 6})
    with tempfile.TemporaryDirectory() as folder:
        trainer = ScheduledSetFitTrainer(
            model=make_model(),
            args=TrainingArguments(
                output_dir=folder,
                body_learning_rate=5e-2,
                num_epochs=3,
                batch_size=16,
                warmup_proportion=0.0,
                report_to="none",
                logging_steps=1,
                save_strategy="no",
            ),
            train_dataset=data,
            schedule=make_schedule("cosine", warmup="10%"),
        )
        trainer.train()
    log = [row for row in trainer.st_trainer.state.log_history if "embedding_loss" in row]
    rates, losses = [row["learning_rate"] for row in log], [row["embedding_loss"] for row in log]
    print(f"{len(rates)} updates: rate {rates[0]:.6f} at first, {max(rates):.6f} at its peak, {rates[-1]:.6f} at last")
    print(f"loss {losses[0]:.4f} at first, {losses[-1]:.4f} at last")
    return rates


if __name__ == "__main__":
    main()
