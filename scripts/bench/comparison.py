"""What `finetune compare` takes over a thousand and ten thousand made-up runs: seconds, and memory at its peak.

    .venv/bin/python scripts/bench/comparison.py --rounds 5

Each round is a new process, as a user starts one, imports included; the runs' files are in the page cache. Beside the
wall time stands the processor's, which other work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from records import write_runs

COMPARE = [sys.executable, "-c", "from finetune.cli import main; main()", "compare"]
TARGETS = {1000: {"wall_seconds": 3, "peak_megabytes": 500}, 10_000: {"wall_seconds": 30}}


def measure(folder: Path) -> dict[str, float]:
    """Compares the runs in `folder` in a process of its own; returns what that took."""
    start = time.perf_counter()
    process = subprocess.Popen([*COMPARE, str(folder)], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"compare failed with exit code {process.returncode}")
    return {
        "wall_seconds": round(wall, 2),
        "processor_seconds": round(used.ru_utime + used.ru_stime, 2),
        "peak_megabytes": round(used.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)),
    }


def over_rounds(folder: Path, *, rounds: int) -> dict[str, Any]:
    measured = [measure(folder) for _ in range(rounds)]
    return {name: statistics.median(each[name] for each in measured) for name in measured[0]} | {"rounds": measured}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", type=Path, default=Path(__file__).with_name("comparison.json"))
    arguments = parser.parse_args()
    measured = {}
    for count in arguments.runs:
        with tempfile.TemporaryDirectory() as folder:
            written = write_runs(Path(folder), count=count)
            taken = over_rounds(Path(folder), rounds=arguments.rounds)
        measured[str(count)] = {"written": written, **taken, "target": TARGETS.get(count)}
        print(f"{written:,} runs: {taken}", flush=True)
    # It loads torch, and a process counts the memory of the one that started it as its own.
    from finetune.training.environment import describe_processor

    result = {
        "hardware": describe_processor(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("numpy", "pyarrow", "pydantic", "scipy")},
        "runs": measured,
    }
    arguments.write.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"written to {arguments.write}")


if __name__ == "__main__":
    main()
