"""Samples per second of one run, made in several ways that take turns in this process.

    .venv/bin/python scripts/bench/throughput.py recipes/minilm_reviews.yaml --updates 60 --rounds 5

- stock: transformers' Trainer as its examples use it; tuned: the same with what can be set by hand (peers.py);
- by_hand: a hand-written loop over the same batches as ours (hand_written.py);
- ours: `fine_tune`; everything: with the settings of --everything besides.

All train from the same weights, without evaluations. Figures are medians over rounds. Beside samples there are tokens,
padding not counted, and the share of the arithmetic that a large matrix product reaches on this device (model FLOP
utilisation: 6 for each weight that multiplies and token, and the products of attention).
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import peers
import torch
from hand_written import device, train
from models import RECIPE, prepared
from rich.console import Console

from finetune.evaluation.record import read_history
from finetune.recipe import Recipe, load_recipe
from finetune.training import fine_tune, run_directory
from finetune.training.environment import describe_hardware
from finetune.training.material import Library, training_examples
from finetune.training.precision import resolve_precision

WAYS = ("stock", "tuned", "by_hand", "ours", "everything")
TARGETS = {"ours to stock": 7.0, "ours to by_hand": 0.97, "everything to by_hand": 1.25}


def by_hand(recipe: Recipe, library: Library, *, updates: int, warmup: int) -> Iterator[float]:
    """Yields the time at which each update of the hand-written loop is done."""
    model = library.model(recipe).model.to(device())
    for made in train(model, recipe, library, updates=updates):
        if torch.cuda.is_available() and made in {warmup, updates}:
            torch.cuda.synchronize()
        yield time.perf_counter()


def by_us(recipe_file: Path, overrides: Sequence[str], *, updates: int, folder: str) -> Iterator[float]:
    """Yields the time at which each update of our run was done."""
    alone = [
        f"training.duration={updates}",
        "evaluation.every=null",
        "checkpoints.every=null",
        "data.examples={validation: 32, test: 32}",
        f"output={folder}",
    ]
    recipe = load_recipe(recipe_file, [*overrides, *alone])
    fine_tune(recipe, source=recipe_file, console=Console(quiet=True), repeat=True)
    rows = read_history(run_directory(recipe, source=recipe_file))
    yield from (row["seconds"] for row in rows if "rates" in row)


def samples_per_second(times: Sequence[float], *, batch_size: int, warmup: int) -> float:
    """Returns the throughput after the warm-up updates, whose kernels are still being built."""
    return (len(times) - warmup) * batch_size / (times[-1] - times[warmup - 1])


def product_flops(precision: str) -> float:
    """Returns the operations per second of a large matrix product in `precision` on this device."""
    size = 8192 if torch.cuda.is_available() else 2048
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[precision]
    left, right = (torch.randn(size, size, device=device(), dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(15):
        start = time.perf_counter()
        left @ right
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / statistics.median(seconds[5:])


def sample_flops(model: torch.nn.Module, tokens: float) -> float:
    """Returns the operations of a forward and a backward pass over one example of `tokens` tokens."""
    embedded = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    weights = sum(parameter.numel() for parameter in model.parameters() if id(parameter) not in embedded)
    config: Any = model.config
    return 6 * weights * tokens + 12 * config.num_hidden_layers * config.hidden_size * tokens**2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, nargs="?", default=RECIPE)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--everything", nargs="+", default=[], metavar="KEY=VALUE")
    parser.add_argument("--bert-base", action="store_true", help="a BERT-base of random weights as the model")
    parser.add_argument("--sentences", type=int, default=1, help="how many are joined to one text")
    parser.add_argument("--updates", type=int, default=60)
    parser.add_argument("--warmup", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", type=Path, default=Path(__file__).with_name("throughput.json"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(arguments, folder)
    arguments.write.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(
        json.dumps({key: result[key] for key in ("median", "ratios", "utilisation")}), f"written to {arguments.write}"
    )


def measure(arguments: argparse.Namespace, folder: str) -> dict[str, Any]:
    overrides = prepared(
        arguments.recipe,
        arguments.overrides,
        folder=Path(folder),
        bert_base=arguments.bert_base,
        sentences=arguments.sentences,
    )
    recipe, library = load_recipe(arguments.recipe, overrides), Library(keep_weights=True)
    updates, warmup = arguments.updates, arguments.warmup
    by_trainer = {"updates": updates, "folder": folder, "synchronised_at": {warmup, updates}}
    run = {"updates": updates, "folder": folder}
    loops: dict[str, Callable[[], Iterator[float]]] = {
        "stock": lambda: peers.train(recipe, library, tuned=False, **by_trainer),
        "tuned": lambda: peers.train(recipe, library, tuned=True, **by_trainer),
        "by_hand": lambda: by_hand(recipe, library, updates=updates, warmup=warmup),
        "ours": lambda: by_us(arguments.recipe, overrides, **run),
        "everything": lambda: by_us(arguments.recipe, [*overrides, *arguments.everything], **run),
    }
    rounds = []
    for number in range(arguments.rounds):
        # What goes first warms the machine for what follows, so they take turns.
        order = arguments.ways if number % 2 == 0 else arguments.ways[::-1]
        times = {name: list(loops[name]()) for name in order}
        speeds = {
            name: round(samples_per_second(times[name], batch_size=recipe.training.batch_size, warmup=warmup), 2)
            for name in arguments.ways
        }
        rounds.append(speeds)
        print(f"round {number + 1}: {speeds}", flush=True)
    precision = resolve_precision(recipe.training.precision, device())
    examples = training_examples(recipe, library.material(recipe))
    tokens = float(examples.lengths.mean())
    median = {name: statistics.median(each[name] for each in rounds) for name in arguments.ways}
    reached, needed = product_flops(precision), sample_flops(library.model(recipe).model, tokens)
    return {
        "recipe": arguments.recipe.name,
        "overrides": arguments.overrides,
        "everything": arguments.everything,
        "model": "BERT-base of random weights" if arguments.bert_base else "the recipe's",
        "hardware": describe_hardware(device()),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "precision": precision,
        "batch_size": recipe.training.batch_size,
        "tokens_per_sample": round(tokens, 2),
        "updates": updates,
        "rounds": rounds,
        "median": median,
        "tokens_per_second": {name: round(speed * tokens) for name, speed in median.items()},
        "ratios": ratios(rounds),
        "targets": TARGETS,
        "flops_per_second_of_a_large_product": float(f"{reached:.4g}"),
        "utilisation": {name: float(f"{speed * needed / reached:.3g}") for name, speed in median.items()},
    }


def ratios(rounds: Sequence[dict[str, float]]) -> dict[str, list[float]]:
    """Returns of each ratio that is aimed at the median over rounds, the least and the greatest."""
    found = {}
    for name in TARGETS:
        one, other = name.split(" to ")
        if one in rounds[0] and other in rounds[0]:
            each = sorted(speeds[one] / speeds[other] for speeds in rounds)
            found[name] = [round(value, 3) for value in (statistics.median(each), each[0], each[-1])]
    return found


if __name__ == "__main__":
    main()
