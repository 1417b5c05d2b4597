"""What schedules cost: a scheduler's step beside torch's, transformers' and timm's, a million values, and the import.

.venv/bin/python scripts/bench/schedules.py
"""

from __future__ import annotations

import argparse
import importlib
import importlib.machinery
import importlib.util
import json
import math
import statistics
import subprocess
import sys
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from finetune.schedules import SCHEDULES, make_schedule, make_scheduler
from finetune.training.environment import describe_processor

WARMUP, TOTAL = 100, 10**7
MILLION = 10**6
NEEDED = {
    "phases": {
        "phases": [{"schedule": "linear", "duration": "50%"}, {"schedule": {"name": "cosine", "warmup": "10%"}}]
    },
    "product": {"of": ["cosine", {"name": "step", "every": "10%"}]},
}


def optimizer_of(groups: int) -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(groups)], lr=0.1)


def ours(groups: int) -> Callable[[], Any]:
    schedule = make_schedule("cosine", warmup=WARMUP)
    return stepping(make_scheduler(optimizer_of(groups), schedule, total_steps=TOTAL))


def torchs(groups: int) -> Callable[[], Any]:
    def factor(step: int) -> float:
        if step < WARMUP:
            return step / WARMUP
        return 0.5 * (1.0 + math.cos(math.pi * (step - WARMUP) / (TOTAL - WARMUP)))

    return stepping(torch.optim.lr_scheduler.LambdaLR(optimizer_of(groups), factor))


def transformers_own(groups: int) -> Callable[[], Any]:
    return stepping(transformers.get_cosine_schedule_with_warmup(optimizer_of(groups), WARMUP, TOTAL))


def timms(groups: int) -> Callable[[], Any]:
    if "timm" not in sys.modules:
        found = importlib.machinery.PathFinder.find_spec("timm", [str(Path(sys.prefix) / "reference")])
        if found is None:
            raise SystemExit("timm is not installed: scripts/venv dev")
        sys.modules["timm"] = importlib.util.module_from_spec(found)  # its schedulers alone need no torchvision
    kind = importlib.import_module("timm.scheduler").CosineLRScheduler
    scheduler = kind(optimizer_of(groups), TOTAL, warmup_t=WARMUP, t_in_epochs=False)
    steps = iter(range(TOTAL))
    return lambda: scheduler.step_update(next(steps))


def stepping(scheduler: torch.optim.lr_scheduler.LRScheduler) -> Callable[[], Any]:
    scheduler.optimizer.step()
    return scheduler.step


def microseconds(step: Callable[[], Any], number: int) -> float:
    return timeit.timeit(step, number=number) / number * 1e6


def step_costs(groups: int, *, rounds: int, number: int) -> dict[str, Any]:
    """Medians over rounds in which all take turns, and of ours to each of theirs in the same round."""
    steps = {
        "ours": ours(groups),
        "torch": torchs(groups),
        "transformers": transformers_own(groups),
        "timm": timms(groups),
    }
    for step in steps.values():
        microseconds(step, number)
    measured = [{name: microseconds(step, number) for name, step in steps.items()} for _ in range(rounds)]
    return {
        "microseconds": {name: round(statistics.median(each[name] for each in measured), 2) for name in steps},
        "ratio": {
            name: round(statistics.median(each["ours"] / each[name] for each in measured), 3)
            for name in steps
            if name != "ours"
        },
    }


def a_million_values(name: str) -> float:
    factor = make_schedule(name, **NEEDED.get(name, {})).resolve(total_steps=MILLION)
    steps = np.arange(MILLION)
    return round(min(timeit.repeat(lambda: factor(steps), number=1, repeat=3)), 4)


def import_milliseconds(rounds: int) -> float:
    """The median of what importing finetune.schedules takes beyond starting Python."""
    code = "import time; start = time.perf_counter(); import finetune.schedules; print(time.perf_counter() - start)"
    command = [sys.executable, "-c", code]
    taken = [float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(rounds)]
    return round(1000 * statistics.median(taken), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--write", type=Path, default=Path(__file__).with_name("schedules.json"))
    arguments = parser.parse_args()
    result = {
        "hardware": describe_processor(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numpy": np.__version__,
        "step": {
            "1 group": step_costs(1, rounds=arguments.rounds, number=5000),
            "200 groups": step_costs(200, rounds=arguments.rounds, number=200),
        },
        "a million values, in seconds": {name: a_million_values(name) for name in SCHEDULES},
        "import finetune.schedules, in milliseconds": import_milliseconds(arguments.rounds),
    }
    arguments.write.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))
    print(f"written to {arguments.write}")


if __name__ == "__main__":
    main()
