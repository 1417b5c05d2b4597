"""Samples per second of a training run against a hand-written loop over the same batches.

    .venv/bin/python scripts/bench/throughput.py recipes/minilm_reviews.yaml --updates 60 --rounds 5

Each round trains the two one after the other in this process, from the same weights, and gives their ratio; the
figures written are medians over rounds. The other one is that of hand_written.py, without evaluations.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from hand_written import device, train
from rich.console import Console

from finetune.evaluation.record import read_history
from finetune.recipe import Recipe, load_recipe
from finetune.training import fine_tune, run_directory
from finetune.training.environment import describe_processor
from finetune.training.material import Library

WARMUP_UPDATES = 10


def by_hand(recipe: Recipe, library: Library, *, updates: int) -> Iterator[float]:
    """Yields the time at which each update of the hand-written loop is done."""
    model = library.model(recipe).model.to(device())
    for made in train(model, recipe, library, updates=updates):
        if torch.cuda.is_available() and made in {WARMUP_UPDATES, updates}:
            torch.cuda.synchronize()
        yield time.perf_counter()


def by_us(recipe_file: Path, overrides: Sequence[str], *, updates: int) -> Iterator[float]:
    """Yields the time at which each update of our run was done."""
    with tempfile.TemporaryDirectory() as folder:
        recipe = load_recipe(
            recipe_file,
            [
                *overrides,
                f"training.duration={updates}",
                "evaluation.every=null",
                "checkpoints.every=null",
                f"output={folder}",
            ],
        )
        fine_tune(recipe, source=recipe_file, console=Console(quiet=True))
        rows = read_history(run_directory(recipe, source=recipe_file))
    yield from (row["seconds"] for row in rows if "rates" in row)


def samples_per_second(times: Sequence[float], batch_size: int) -> float:
    """Returns the throughput after the warm-up updates, whose kernels are still being built."""
    return (len(times) - WARMUP_UPDATES) * batch_size / (times[-1] - times[WARMUP_UPDATES - 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--updates", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", type=Path, default=Path(__file__).with_name("throughput.json"))
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.recipe, arguments.overrides)
    library = Library()
    batch_size = recipe.training.batch_size
    rounds = []
    for number in range(arguments.rounds):
        loops = {
            "by_hand": lambda: by_hand(recipe, library, updates=arguments.updates),
            "by_us": lambda: by_us(arguments.recipe, arguments.overrides, updates=arguments.updates),
        }
        # What goes first warms the machine for what follows, so they take turns.
        order = list(loops) if number % 2 == 0 else list(reversed(loops))
        speeds = {name: round(samples_per_second(list(loops[name]()), batch_size), 2) for name in order}
        rounds.append({name: speeds[name] for name in loops} | {"ratio": round(speeds["by_us"] / speeds["by_hand"], 4)})
        print(f"round {number + 1}: {rounds[-1]}", flush=True)
    result = {
        "recipe": arguments.recipe.name,
        "hardware": describe_processor(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "updates": arguments.updates,
        "rounds": rounds,
        "median": {name: statistics.median(each[name] for each in rounds) for name in rounds[0]},
    }
    arguments.write.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"median: {result['median']}; written to {arguments.write}")


if __name__ == "__main__":
    main()
