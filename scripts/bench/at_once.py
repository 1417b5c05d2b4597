"""Samples per second of several runs at once on one machine, added up.

    .venv/bin/python scripts/bench/at_once.py --numbers 1 2 --updates 120 --warmup 40

Each run is a process of throughput.py, with its share of the processor's threads. They begin together and are as long
as each other, so that what is measured of one falls into the time of the others.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from hand_written import device
from models import RECIPE

from finetune.training.environment import describe_hardware


def at_once(number: int, options: list[str], *, way: str) -> list[float]:
    """Returns the samples per second of each of `number` runs."""
    environment = os.environ | {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // number))}
    with tempfile.TemporaryDirectory() as folder:
        results = [Path(folder) / f"{each}.json" for each in range(number)]
        script = str(Path(__file__).with_name("throughput.py"))
        running = [
            subprocess.Popen(
                [sys.executable, script, str(RECIPE), *options, "--ways", way, "--rounds", "1", "--write", str(result)],
                env=environment,
                stdout=subprocess.DEVNULL,
            )
            for result in results
        ]
        if any(process.wait() for process in running):
            raise SystemExit("a run failed")
        return [json.loads(result.read_text(encoding="utf-8"))["median"][way] for result in results]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--numbers", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--updates", default="120")
    parser.add_argument("--warmup", default="40")
    parser.add_argument("--everything", nargs="+", default=[], metavar="KEY=VALUE")
    parser.add_argument("--write", type=Path, default=Path(__file__).with_name("at_once.json"))
    arguments = parser.parse_args()
    options = ["--updates", arguments.updates, "--warmup", arguments.warmup]
    if arguments.everything:
        options += ["--everything", *arguments.everything]
    rounds: list[dict[int, Any]] = []
    for _ in range(arguments.rounds):
        way = "everything" if arguments.everything else "ours"
        rounds.append({number: at_once(number, options, way=way) for number in arguments.numbers})
        print(rounds[-1], flush=True)
    totals = {number: [round(sum(each[number]), 1) for each in rounds] for number in arguments.numbers}
    result = {
        "recipe": RECIPE.name,
        "everything": arguments.everything,
        "hardware": describe_hardware(device()),
        "torch": torch.__version__,
        "samples per second, added up, by runs at once": totals,
    }
    arguments.write.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"{totals}; written to {arguments.write}")


if __name__ == "__main__":
    main()
