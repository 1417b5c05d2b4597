"""How long a study takes on a thousand workers of which some fail: its own plan and dispatch, by a simulated clock.

    .venv/bin/python scripts/bench/makespan.py

Runs are laid out and their shared starts found as in any study, and their steps handed out by the dispatcher of
`finetune study --engine ray`; but workers are numbers, and time is counted rather than spent. A step takes SECONDS for
each update, times a factor drawn anew for it, and what it takes to begin. A worker fails after a time drawn from the
exponential distribution, is missed after a while, and comes back later; the step goes on from its last checkpoint.

The ideal is the greater of two bounds, of the same steps without any failure: all work over the number of workers, and
the longest chain of steps that wait for each other. Beside it stands a tighter bound, as no worker makes a part of a
step: of the k · m + 1 longest steps, k + 1 fall to one of m workers.
"""

from __future__ import annotations

import argparse
import heapq
import json
import statistics
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from models import TOKENIZER

from finetune.recipe import load_study
from finetune.study.engines.dispatch import Lost, Made, Task, Trunk, dispatch
from finetune.study.groves import Grove, Step, each_alone, plan_groves
from finetune.study.jobs import Done, Job, final_jobs
from finetune.training.material import Library

TARGET = 1.2
SCHEDULES: tuple[dict[str, Any], ...] = (
    {"name": "cosine"},
    {"name": "linear"},
    {"name": "constant"},
    {"name": "wsd", "cooldown": "10%"},
    {"name": "wsd", "cooldown": "20%"},
)
PEAKS = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4)
UPDATES, CHECKPOINT = 2000, 200
TIRELESS = 100
"""How often a step is tried before it counts as failed, which no step here comes to."""


@dataclass(frozen=True)
class World:
    """What is assumed of workers. `spread`: the standard deviation of the logarithm of a step's factor; `hours`: the
    mean time until a worker fails, None where none does; `missed`, `repaired`: seconds until a failure is noticed, and
    from then until the worker is back; `beginning`: seconds before a step's first update."""

    seconds_per_update: float = 0.5
    spread: float = 0.15
    beginning: float = 20.0
    hours: float | None = 24.0
    missed: float = 30.0
    repaired: float = 600.0


class Cluster:
    """A crew of workers who are numbers: it keeps the time, and draws who fails."""

    def __init__(self, workers: int, world: World, updates: Mapping[int, int], *, seed: int) -> None:
        self._world = world
        self._updates = updates
        self._generator = np.random.default_rng(seed)
        self._seconds = {key: self._drawn(count) for key, count in updates.items()}
        self._saved: dict[int, int] = {}
        self._workers = workers
        self._ends: list[tuple[float, int]] = []
        self._returns: list[float] = []
        self._results: dict[int, Made | Lost] = {}
        self.clock = 0.0
        self.failures = 0
        self.busy = 0.0

    def _drawn(self, updates: int) -> float:
        """Returns the seconds of a step's update."""
        world = self._world
        factor = self._generator.lognormal(-(world.spread**2) / 2, world.spread)
        return float(world.seconds_per_update * factor) if updates else 0.0

    def seconds_of(self, step: Step) -> float:
        """Returns what a step takes where nothing fails."""
        return self._world.beginning + self._updates[id(step)] * self._seconds[id(step)]

    def room(self) -> int:
        """Returns how many workers are there."""
        return self._workers - len(self._returns)

    def begin(self, task: Task) -> int:
        """Has a step made, from its last checkpoint on."""
        ticket, key = len(self._results), id(task.step)
        pace, left = self._seconds[key], self._updates[key] - self._saved.get(key, 0)
        seconds, world = self._world.beginning + left * pace, self._world
        until = np.inf if world.hours is None else self._generator.exponential(world.hours * 3600)
        if until < seconds:
            made = max(0, int((until - world.beginning) / pace)) if pace else 0
            self._saved[key] = self._saved.get(key, 0) + made // CHECKPOINT * CHECKPOINT
            self._results[ticket] = Lost("its worker failed", TIRELESS)
            seconds = float(until) + world.missed
        else:
            done = tuple(Done(job, "finished") for job in task.step.ending)
            self._results[ticket] = Made(done, Trunk(Path(), task.step.until))
        self.busy += seconds
        heapq.heappush(self._ends, (self.clock + seconds, ticket))
        return ticket

    def wait(self, tickets: Collection[int], *, seconds: float) -> Collection[int]:
        """Goes on to the next time at which something happens; returns the task that ended then, if one did."""
        if self._returns and (not self._ends or self._returns[0] < self._ends[0][0]):
            self.clock = heapq.heappop(self._returns)
            return ()
        self.clock, ticket = heapq.heappop(self._ends)
        return (ticket,)

    def result(self, ticket: int) -> Made | Lost:
        """Returns what came of a task; of one that was lost the worker is gone for a while."""
        result = self._results[ticket]
        if isinstance(result, Lost):
            self.failures += 1
            heapq.heappush(self._returns, self.clock + self._world.repaired)
        return result

    def call_off(self, tickets: Collection[int]) -> None:
        """Has nothing to stop."""

    def leave(self, grove: Grove) -> None:
        """Has nothing to clear away."""


def simulate(groves: Sequence[Grove], *, workers: int, world: World, seed: int) -> dict[str, Any]:
    """Returns how long the runs of `groves` take, and the ideal."""
    updates = {id(step): count for grove in groves for step, count in _lengths(grove)}
    cluster = Cluster(workers, world, updates, seed=seed)
    done = list(dispatch(cluster, groves, find=lambda _: None, wants_to_stop=lambda: None, tell=lambda _: None))
    assert {each.status for each in done} == {"finished"}  # noqa: S101
    work = sum(cluster.seconds_of(step) for grove in groves for step in grove.steps)
    chain = max(_longest_chain(grove, cluster) for grove in groves)
    ideal = max(work / workers, chain)
    whole = max(ideal, _bound_of_whole_steps([cluster.seconds_of(step) for g in groves for step in g.steps], workers))
    return {
        "runs": len(done),
        "steps": len(updates),
        "makespan_hours": round(cluster.clock / 3600, 4),
        "ideal_hours": round(ideal / 3600, 4),
        "bound": "longest chain" if chain > work / workers else "work over workers",
        "ratio": round(cluster.clock / ideal, 4),
        "ratio_to_whole_steps": round(cluster.clock / whole, 4),
        "failures": cluster.failures,
        "used": round(work / (workers * cluster.clock), 4),
    }


def _lengths(grove: Grove) -> Iterator[tuple[Step, int]]:
    if not grove.segments:
        yield grove.steps[0], UPDATES
        return
    for step, segment in zip(grove.steps, grove.segments, strict=True):
        yield step, segment.updates


def _bound_of_whole_steps(seconds: Sequence[float], workers: int) -> float:
    ordered = sorted(seconds, reverse=True)
    counts = range(1, (len(ordered) - 1) // workers + 1)
    return max((sum(ordered[k * workers - k : k * workers + 1]) for k in counts), default=0.0)


def _longest_chain(grove: Grove, cluster: Cluster) -> float:
    ends: dict[int | None, float] = {None: 0.0}
    for number, step in enumerate(grove.steps):
        ends[number] = ends[step.parent] + cluster.seconds_of(step)
    return max(ends.values())


def make_jobs(runs: int, library: Library, folder: Path) -> list[Job]:
    """Returns the runs of a study, on a few sentences that stand for any data, as the engine is given them."""
    seeds = runs // (len(SCHEDULES) * len(PEAKS))
    rows = [{"sentence": f"sentence {number}", "label": ("good", "bad")[number % 2]} for number in range(64)]
    for split in ("train", "validation"):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    content = {
        "task": {"name": "text_classification", "text": "sentence", "label": "label", "max_length": 16},
        "model": {"path": str(TOKENIZER)},
        "data": {"files": {split: f"{split}.jsonl" for split in ("train", "validation")}},
        "schedule": {"name": "cosine", "warmup": "10%"},
        "optimizer": {"name": "adamw", "learning_rate": 2e-5},
        "training": {"duration": UPDATES},
        "evaluation": {"every": CHECKPOINT},
        "checkpoints": {"every": CHECKPOINT},
        "study": {
            "grid": {
                "schedule": [{**schedule, "warmup": "10%"} for schedule in SCHEDULES],
                "optimizer.learning_rate": PEAKS,
                "training.seed": list(range(seeds)),
            }
        },
    }
    path = folder / "study.yaml"
    path.write_text(json.dumps(content), encoding="utf-8")
    return list(final_jobs(load_study(path, []), {}))


def try_size(runs: int, *, workers: int, draws: int, world: World, library: Library, folder: Path) -> dict[str, Any]:
    """Returns what `draws` simulations of a study of `runs` came to: with failures and without, shared and apart."""
    began = time.perf_counter()
    jobs = make_jobs(runs, library, folder)
    shared = plan_groves(jobs, library=library)
    planned = time.perf_counter() - began
    assert world.hours is not None  # noqa: S101 - the command line has a number
    ways = {
        "shared": (shared, world),
        "shared, no failures": (shared, replace(world, hours=None)),
        "shared, a sixth of the time to a failure": (shared, replace(world, hours=world.hours / 6)),
        "apart": (each_alone(jobs), world),
    }
    result: dict[str, Any] = {"runs": runs, "workers": workers, "seconds_to_plan": round(planned, 2)}
    for name, (groves, assumed) in ways.items():
        each = [simulate(groves, workers=workers, world=assumed, seed=seed) for seed in range(draws)]
        ratios = sorted(one["ratio"] for one in each)
        result[name] = {
            "ratio": {"median": statistics.median(ratios), "least": ratios[0], "greatest": ratios[-1]},
            "ratio_to_whole_steps": statistics.median(one["ratio_to_whole_steps"] for one in each),
            "makespan_hours": statistics.median(one["makespan_hours"] for one in each),
            "failures": statistics.median(one["failures"] for one in each),
            "draws": each,
        }
        print(f"{runs:,} runs, {workers:,} workers, {name}: {result[name]}"[:200], flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[1000, 2500, 10_000])
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--hours", type=float, default=24.0, help="the mean time until a worker fails")
    parser.add_argument("--spread", type=float, default=0.15, help="of the logarithm of a step's factor")
    parser.add_argument("--write", type=Path, default=Path(__file__).with_name("makespan.json"))
    arguments = parser.parse_args()
    world, library, sizes = World(hours=arguments.hours, spread=arguments.spread), Library(), []
    for runs in arguments.runs:
        with tempfile.TemporaryDirectory() as folder:
            sizes.append(
                try_size(
                    runs,
                    workers=arguments.workers,
                    draws=arguments.draws,
                    world=world,
                    library=library,
                    folder=Path(folder),
                )
            )
    result = {
        "world": asdict(world),
        "updates": UPDATES,
        "checkpoint": CHECKPOINT,
        "target": TARGET,
        "within_target": all(size["shared"]["ratio"]["greatest"] <= TARGET for size in sizes),
        "sizes": sizes,
    }
    arguments.write.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"within {TARGET}: {result['within_target']}; written to {arguments.write}")


if __name__ == "__main__":
    main()
