"""What more examples cost a run before its first update: seconds of each stage, and memory at its peak.

    .venv/bin/python scripts/bench/growth.py --rounds 3 3 3 1

Runs over 1,000 to 800,000 sentences, the reviews of assets/ over and over, each time with another word at their end,
of a model that has MiniLM's tokenizer and next to no weights. Each run is a new process that ends with its first
update. It is launched with an empty cache, and again with what the first has left there. Two peaks are taken: of all
memory, and of what is the process's own, without the pages of files that are mapped, which the operating system takes
back where it needs them. Beside the wall time stands the processor's, which other work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

ASSETS = Path(__file__).resolve().parents[2] / "assets"
LAUNCHES = ("first", "again")
RECIPE = """
task: {name: text_classification, text: sentence}
model: {path: model}
data: {files: {train: train.parquet, validation: validation.parquet}}
optimizer: {name: adamw, learning_rate: 1e-4}
training: {duration: 1, batch_size: 32, precision: fp32}
evaluation: {every: null}
checkpoints: {every: null}
output: runs
"""


def write_run(folder: Path, *, count: int) -> Path:
    """Writes `count` sentences to train on and 100 to validate on into `folder`; returns the path of their recipe."""
    import pyarrow
    from pyarrow import parquet

    reviews = parquet.read_table(ASSETS / "movie_reviews" / "train.parquet", columns=["sentence", "label"])
    sentences, labels = (reviews.column(name).to_pylist() for name in ("sentence", "label"))
    parts = []
    for turn, start in enumerate(range(0, count, len(sentences))):
        size = min(len(sentences), count - start)
        texts = [f"{sentence} {turn}" for sentence in sentences[:size]]
        parts.append(pyarrow.table({"sentence": texts, "label": labels[:size]}))
    parquet.write_table(pyarrow.concat_tables(parts), folder / "train.parquet")
    validation = parquet.read_table(ASSETS / "movie_reviews" / "validation.parquet").slice(0, 100)
    parquet.write_table(validation, folder / "validation.parquet")
    recipe = folder / "growth.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    write_model(folder / "model")
    return recipe


def write_model(folder: Path) -> None:
    """Saves an encoder of 32 numbers a token, with MiniLM's tokenizer, into `folder`."""
    from transformers import AutoTokenizer, BertConfig, BertModel

    tokenizer = AutoTokenizer.from_pretrained(ASSETS / "all-MiniLM-L6-v2")
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=512,
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def run_to_first_update(recipe: Path, *, launched: float) -> None:
    """Runs `recipe`, prints what it took since the time `launched`, and ends the process with the first update."""
    from rich.console import Console

    from finetune.recipe import load_recipe
    from finetune.tasks import TextClassification
    from finetune.training import fine_tune, material
    from finetune.training.batches import LengthGroupedBatches
    from finetune.training.trainer import ScheduledTrainer

    seconds: dict[str, float] = defaultdict(float)
    processor: dict[str, float] = defaultdict(float)
    seconds["imports"], processor["imports"] = time.time() - launched, time.process_time()

    def end(trainer: Any) -> None:
        seconds["launch to first update"] = time.time() - launched
        processor["launch to first update"] = time.process_time()
        stages = {name: {"seconds": seconds[name], "processor_seconds": processor[name]} for name in seconds}
        print(json.dumps({"stages": stages, "peak_megabytes": _status("VmHWM")}), flush=True)
        os._exit(0)

    def timed(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **settings: Any) -> Any:
            start, used = time.perf_counter(), time.process_time()
            try:
                return function(*args, **settings)
            finally:
                seconds[stage] += time.perf_counter() - start
                processor[stage] += time.process_time() - used

        return call

    stages = {
        "reading": (material, "load_files"),
        "checking": (TextClassification, "read"),
        "cautions": (TextClassification, "cautions"),
        "fingerprinting": (material, "fingerprint"),
        "tokenising": (TextClassification, "encode"),
        "batches of an epoch": (LengthGroupedBatches, "epoch_batches"),
    }
    for stage, (place, name) in stages.items():
        patch.object(place, name, timed(stage, getattr(place, name))).start()
    patch.object(ScheduledTrainer, "take_update", end).start()
    fine_tune(load_recipe(recipe), source=recipe, console=Console(quiet=True))


def _status(field: str, process: int | str = "self") -> float:
    """Returns a field of a process's status in megabytes; 0 if it is gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:")), 0)


def measure(recipe: Path, *, cache: Path) -> dict[str, Any]:
    """Launches a process that runs `recipe` to its first update; returns what it took."""
    command = [sys.executable, __file__, "--run", str(recipe), "--launched", repr(time.time())]
    environment = os.environ | {"FINETUNE_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        own = 0.0
        while process.poll() is None:
            own = max(own, _status("RssAnon", process.pid))
            time.sleep(0.01)
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        printed = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"a run failed with exit code {process.returncode}")
    return {**json.loads(printed.splitlines()[-1]), "own_peak_megabytes": own}


def over_rounds(count: int, *, rounds: int) -> dict[str, Any]:
    """Returns the medians over rounds of a run over `count` examples, launched first and again."""
    taken: dict[str, list[dict[str, Any]]] = {launch: [] for launch in LAUNCHES}
    with tempfile.TemporaryDirectory() as folder:
        recipe = write_run(Path(folder), count=count)
        for number in range(rounds):
            for launch in LAUNCHES:
                taken[launch].append(measure(recipe, cache=Path(folder) / f"cache-{number}"))
    return {launch: _median(each) for launch, each in taken.items()}


def _median(values: Sequence[Any]) -> Any:
    """Returns the medians of numbers, which may be nested in dicts."""
    if isinstance(values[0], dict):
        return {name: _median([value[name] for value in values]) for name in values[0]}
    return round(statistics.median(values), 4)


def growth(measured: dict[int, Any]) -> dict[str, Any]:
    """Returns how many times as much the most examples took as those before them, and more memory for each example."""
    fewer, more = sorted(measured)[-2:]
    found: dict[str, Any] = {"from": fewer, "to": more}
    for launch in LAUNCHES:
        before, after = measured[fewer][launch], measured[more][launch]
        found[launch] = {
            "times the seconds of the processor": {
                stage: round(taken["processor_seconds"] / before["stages"][stage]["processor_seconds"], 2)
                for stage, taken in after["stages"].items()
            },
            "more bytes for an example": {
                name: round((after[name] - before[name]) * 2**20 / (more - fewer))
                for name in ("peak_megabytes", "own_peak_megabytes")
            },
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, nargs="+", default=[1000, 8000, 80_000, 800_000])
    parser.add_argument("--rounds", type=int, nargs="+", default=[3], help="of each number of examples, or of all")
    parser.add_argument("--write", type=Path, default=Path(__file__).with_name("growth.json"))
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--launched", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        run_to_first_update(arguments.run, launched=arguments.launched)
        return
    measured = {}
    rounds = arguments.rounds * (1 if len(arguments.rounds) > 1 else len(arguments.examples))
    for count, number in zip(arguments.examples, rounds, strict=True):
        measured[count] = {"rounds": number, **over_rounds(count, rounds=number)}
        print(f"{count:,} examples: {json.dumps(measured[count])}", flush=True)
    from finetune.training.environment import describe_processor

    result = {
        "hardware": describe_processor(),
        "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers", "pyarrow", "numpy")},
        "examples": measured,
        "growth": growth(measured) if len(measured) > 1 else None,
    }
    arguments.write.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"written to {arguments.write}")


if __name__ == "__main__":
    main()
