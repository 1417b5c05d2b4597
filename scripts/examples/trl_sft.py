"""TRL's SFTTrainer with any schedule: ScheduleMixin before SFTTrainer, and `schedule=`. TRL's other trainers likewise.

Run:     python scripts/examples/trl_sft.py
"""

import tempfile

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

from finetune.schedules import ScheduleMixin, make_schedule

WORDS = "the quick brown fox jumps over a lazy dog".split()


class ScheduledSFTTrainer(ScheduleMixin, SFTTrainer):
    """SFTTrainer that takes `schedule`."""


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Returns a tokenizer that knows WORDS and splits at spaces."""
    words = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[EOS]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", eos_token="[EOS]")


def main() -> list[float]:
    """Trains, prints every update, and returns each update's rate."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=32,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    texts = [" ".join(WORDS[start:] + WORDS[:start]) for start in range(len(WORDS))]
    with tempfile.TemporaryDirectory() as folder:
        trainer = ScheduledSFTTrainer(
            model=LlamaForCausalLM(config),
            args=SFTConfig(
                output_dir=folder,
                learning_rate=2e-2,
                num_train_epochs=4,
                per_device_train_batch_size=2,
                max_length=16,
                gradient_checkpointing=False,
                logging_steps=1,
                save_strategy="no",
                use_cpu=True,
                bf16=False,
                dataloader_pin_memory=False,
                disable_tqdm=True,
            ),
            train_dataset=Dataset.from_dict({"text": texts}),
            processing_class=tokenizer,
            schedule=make_schedule("wsd", warmup="10%", cooldown="20%"),
        )
        trainer.train()
    log = [row for row in trainer.state.log_history if "loss" in row]
    rates, losses = [row["learning_rate"] for row in log], [row["loss"] for row in log]
    print(f"{len(rates)} updates: rate {rates[0]:.6f} at first, {max(rates):.6f} at its peak, {rates[-1]:.6f} at last")
    print(f"loss {losses[0]:.4f} at first, {losses[-1]:.4f} at last")
    return rates


if __name__ == "__main__":
    main()
