"""How long the commands take until they do what they are called for, each in processes of its own.

    .venv/bin/python scripts/bench/start_up.py --rounds 7

`finetune --help`; `finetune check` of a recipe; and `finetune run`, up to its first update (ready), and up to the end
of that, for which a processor builds its kernels, beside a program that imports torch and transformers and loads the
same weights, which no run can do without (bare). All take turns; figures are medians of wall time, and of the
processor's, which other work disturbs less.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from models import RECIPE, TOKENIZER

from finetune.training.environment import describe_processor

UP_TO = """
import os, sys
import finetune.training.trainer as trainer
setattr(trainer.ScheduledTrainer, sys.argv.pop(1), lambda *_: os._exit(0))
from finetune.cli import main
main(sys.argv[1:])
"""
BARE = """
import sys
import torch, transformers
transformers.AutoModelForSequenceClassification.from_pretrained(sys.argv[1])
"""
TARGETS = {"help": 0.3, "check": 1.0, "ready to bare": 1.3}


def commands(folder: str) -> dict[str, list[str]]:
    finetune = [str(Path(sys.executable).with_name("finetune"))]
    python = [sys.executable, "-c"]
    run = ["run", str(RECIPE), f"output={folder}", "--resume", "never"]
    return {
        "help": [*finetune, "--help"],
        "check": [*finetune, "check", str(RECIPE)],
        "bare": [*python, BARE, str(TOKENIZER)],
        "ready": [*python, UP_TO, "training_step", *run],
        "first update": [*python, UP_TO, "take_update", *run],
    }


def timed(command: list[str]) -> dict[str, float]:
    """Returns the seconds that a process takes, by the clock and of the processor."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": round(wall, 3), "processor_seconds": round(used, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--write", type=Path, default=Path(__file__).with_name("start_up.json"))
    arguments = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        each = commands(folder)
        for command in each.values():
            timed(command)  # what is read for the first time is read from the disk
        for number in range(arguments.rounds):
            order = list(each) if number % 2 == 0 else list(reversed(each))
            measured = {name: timed(each[name]) for name in order}
            rounds.append({name: measured[name] for name in each})
            print(f"round {number + 1}: {rounds[-1]}", flush=True)
    median = {
        name: {key: statistics.median(one[name][key] for one in rounds) for key in ("seconds", "processor_seconds")}
        for name in each
    }
    ratios = sorted(one["ready"]["seconds"] / one["bare"]["seconds"] for one in rounds)
    result = {
        "recipe": RECIPE.name,
        "hardware": describe_processor(),
        "torch": torch.__version__,
        "rounds": rounds,
        "median": median,
        "ready to bare": [round(ratio, 3) for ratio in (statistics.median(ratios), ratios[0], ratios[-1])],
        "targets": TARGETS,
    }
    arguments.write.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"median: {median}; ready to bare: {result['ready to bare']}; written to {arguments.write}")


if __name__ == "__main__":
    main()
