"""What batches without padding would give on a GPU: the texts of a batch one after the other, by torch's varlen_attn.

    python scripts/bench/padding.py --sentences 1 8 --write padding.json

Forward and backward passes of the same batches, taking turns: padded, as they are; padded, without dropout of the
attention's weights, which varlen_attn hasn't; and flat. Losses are compared first. The model is a BERT-base of random
weights, or with --minilm the recipe's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hand_written import autocast
from models import RECIPE, prepared
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import cross_entropy
from transformers import AttentionInterface, AttentionMaskInterface

from finetune.recipe import load_recipe
from finetune.training.environment import describe_hardware
from finetune.training.layout import layout_of
from finetune.training.material import Library
from finetune.training.plan import lay_out_updates

Batch = dict[str, torch.Tensor]
TOLERANCE = 2e-2
"""How far two losses in bf16 may lie apart."""


def attend_flat(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    bounds: torch.Tensor,
    longest: int,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention within each text, whose first tokens, and the end, are `bounds`; in the form of transformers."""
    flat = [each.transpose(1, 2)[0].to(torch.bfloat16) for each in (query, key, value)]
    return varlen_attn(*flat, bounds, bounds, longest, longest)[None], None


def flattened(batch: Batch) -> Batch:
    """Returns the batch with its texts one after the other, as one row."""
    mask = batch["attention_mask"].bool()
    lengths = mask.sum(dim=1)
    bounds = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)
    places = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
    return {
        "input_ids": batch["input_ids"][mask][None],
        "position_ids": places[mask][None],
        "labels": batch["labels"],
        "bounds": bounds,
        "longest": int(lengths.max()),
    }


def padded_loss(model: Any, batch: Batch) -> torch.Tensor:
    return model(**batch).loss


def flat_loss(model: Any, batch: Batch) -> torch.Tensor:
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    hidden = model.bert(**inputs).last_hidden_state[0, batch["bounds"][:-1].long()]
    pooled = model.dropout(model.bert.pooler(hidden[:, None]))
    return cross_entropy(model.classifier(pooled).float(), batch["labels"])


def set_attention(model: Any, *, way: str) -> None:
    """Sets how `model` attends, and with what dropout of the attention's weights."""
    model.config._attn_implementation = "flat" if way == "flat" else "sdpa"
    probability = model.config.attention_probs_dropout_prob if way == "padded" else 0.0
    for module in model.modules():
        if type(module).__name__ == "BertSelfAttention":
            module.dropout.p = probability


def seconds(step: Callable[[], None]) -> float:
    torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(overrides: list[str], *, updates: int, rounds: int) -> dict[str, Any]:
    recipe, library, device = load_recipe(RECIPE, overrides), Library(), torch.device("cuda")
    model = library.model(recipe).model.to(device)
    examples, batches, _ = lay_out_updates(recipe, layout=layout_of(recipe), library=library)
    collator = recipe.task.collator(library.material(recipe).processor)
    numbers = list(batches)[:updates]
    loaded = [collator([examples[number] for number in batch]) for batch in numbers]
    padded = [{name: tensor.to(device) for name, tensor in batch.items()} for batch in loaded]
    flat = [flattened(batch) for batch in padded]
    ways = {"padded": (padded_loss, padded), "no attention dropout": (padded_loss, padded), "flat": (flat_loss, flat)}

    model.eval()
    losses = {}
    with torch.inference_mode(), autocast(recipe):
        for way, (loss_of, given) in ways.items():
            set_attention(model, way=way)
            losses[way] = [float(loss_of(model, batch)) for batch in given[:3]]
    if any(abs(one - other) > TOLERANCE for one, other in zip(losses["padded"], losses["flat"], strict=True)):
        raise SystemExit(f"flat batches give other losses than padded ones: {losses}")

    model.train()
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way, (loss_of, given) in ways.items():
            set_attention(model, way=way)

            def step(loss_of: Any = loss_of, given: list[Batch] = given) -> None:
                for batch in given:
                    with autocast(recipe):
                        loss = loss_of(model, batch)
                    loss.backward()
                    model.zero_grad()

            spent = seconds(step)
            if number:
                taken[way].append(spent)
    tokens = sum(int(batch["attention_mask"].sum()) for batch in padded)
    places = sum(batch["attention_mask"].numel() for batch in padded)
    return {
        "tokens in a text": round(tokens / sum(len(batch["labels"]) for batch in padded), 1),
        "padding": round(1 - tokens / places, 4),
        "milliseconds of a pass": {way: round(1000 * statistics.median(taken[way]) / len(padded), 2) for way in ways},
        "losses": losses,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--minilm", action="store_true")
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--write", type=Path, default=Path(__file__).with_name("padding.json"))
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("padding.py needs an NVIDIA GPU: torch has attention of texts of any length there alone")
    AttentionInterface.register("flat", attend_flat)
    AttentionMaskInterface.register("flat", lambda *_, **__: None)
    result: dict[str, Any] = {"hardware": describe_hardware(torch.device("cuda")), "torch": torch.__version__}
    result |= {"model": "MiniLM" if arguments.minilm else "BERT-base", "batch": arguments.batch_size, "texts": {}}
    for sentences in arguments.sentences:
        with tempfile.TemporaryDirectory() as folder:
            overrides = prepared(
                RECIPE,
                [f"training.batch_size={arguments.batch_size}", "task.max_length=512"],
                folder=Path(folder),
                bert_base=not arguments.minilm,
                sentences=sentences,
            )
            found = measure(overrides, updates=arguments.updates, rounds=arguments.rounds)
        result["texts"][f"{sentences} sentences"] = found
        print(json.dumps(found), flush=True)
    arguments.write.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
