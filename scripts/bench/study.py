"""What a study costs beyond the training of its runs, and what it saves: six schedules on three seeds, in one process.

    .venv/bin/python scripts/bench/study.py --rounds 3

A round is the study, from its loaded recipe to its last record, with each run made apart, and with the updates that
runs have in common made once; and the same runs by a hand-written loop. The training alone is, of the runs made apart,
what no loop could leave out: their updates, their evaluations on validation, and the last pass over test. The
hand-written loop makes the same updates and evaluations from weights in memory, keeps the best ones in memory, and
records nothing. Beside wall time stands the processor's, which other work disturbs less.
"""

from __future__ import annotations

import argparse
import copy
import functools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
import torch
from hand_written import accuracy, device, train
from models import RECIPE
from rich.console import Console

from finetune.evaluation.runs import read_runs
from finetune.recipe import Recipe, Study, load_study, with_seed
from finetune.study import run_study
from finetune.training.environment import describe_processor
from finetune.training.layout import layout_of
from finetune.training.material import Library
from finetune.training.plan import lay_out_updates
from finetune.training.trainer import ScheduledTrainer

SCHEDULES: tuple[dict[str, Any], ...] = (
    {"name": "cosine"},
    {"name": "linear"},
    {"name": "constant"},
    {"name": "step", "gamma": 0.5},
    {"name": "wsd", "cooldown": "10%"},
    {"name": "wsd", "cooldown": "20%"},
)
TARGETS = {"apart to training alone": 1.05, "shared to apart": 0.75}
Seconds = dict[str, float]


def write_study(folder: Path, *, schedules: int, seeds: int, examples: Mapping[str, int]) -> Path:
    """Writes the recipe of the study; JSON is YAML too."""
    path = folder / "study.yaml"
    content = {
        "base": str(RECIPE),
        "data": {"examples": dict(examples)},
        "checkpoints": {"every": None},
        "study": {
            "grid": {
                "schedule": SCHEDULES[:schedules],
                "training.seed": list(range(seeds)),
            }
        },
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


class Stopwatch:
    """Wall and processor time, added up by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, Seconds] = {}

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:
        wall, processor = time.perf_counter(), time.process_time()
        yield
        taken = self.seconds.setdefault(name, {"wall": 0.0, "processor": 0.0})
        taken["wall"] += time.perf_counter() - wall
        taken["processor"] += time.process_time() - processor

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self.timing(name):
                return function(*args, **kwargs)

        return call


def by_us(study: Study, source: Path, *, apart: bool) -> dict[str, Any]:
    watch = Stopwatch()
    predicting = watch.timed("passes", ScheduledTrainer.predict_split)
    with patch.object(ScheduledTrainer, "predict_split", predicting), watch.timing("study"):
        outcome = run_study(study, source=source, console=Console(quiet=True), apart=apart)
    if outcome.failed:
        raise SystemExit(f"a run failed: {outcome.failed[0].problem}")
    updates = sum(run.record.timing.train_seconds for run in read_runs([outcome.directory]))
    passes, whole = watch.seconds["passes"]["wall"], watch.seconds["study"]
    return {
        "seconds": round(whole["wall"], 2),
        "processor_seconds": round(whole["processor"], 2),
        "update_seconds": round(updates, 2),
        "evaluation_seconds": round(passes, 2),
    }


def by_hand(study: Study, library: Library) -> dict[str, float]:
    recipes = [with_seed(setting.recipe, seed) for seed in study.seeds for setting in study.settings]
    pretrained = library.model(recipes[0]).model.to(device())
    watch = Stopwatch()
    with watch.timing("runs"):
        for recipe in recipes:
            _one_by_hand(copy.deepcopy(pretrained), recipe, library)
    taken = watch.seconds["runs"]
    return {"seconds": round(taken["wall"], 2), "processor_seconds": round(taken["processor"], 2)}


def _one_by_hand(model: torch.nn.Module, recipe: Recipe, library: Library) -> float:
    """Trains one run, keeping its best weights, and returns their accuracy on test."""
    splits = library.material(recipe).splits
    _, _, horizon = lay_out_updates(recipe, layout=layout_of(recipe), library=library)
    best, kept = -1.0, model.state_dict()
    torch.manual_seed(recipe.training.seed)
    for made in train(model, recipe, library, updates=horizon.total_steps):
        if made == horizon.total_steps or (horizon.evaluate_every and made % horizon.evaluate_every == 0):
            reached = accuracy(model, recipe, library, splits["validation"])
            if reached > best:
                best, kept = reached, {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.load_state_dict(kept)
    return accuracy(model, recipe, library, splits["test"])


def one_round(number: int, **size: Any) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = write_study(folder, **size)

        def study_in(place: str) -> Study:
            return load_study(source, [f"output={folder / place}"])

        loops: dict[str, Callable[[], dict[str, Any]]] = {
            "apart": lambda: by_us(study_in("apart"), source, apart=True),
            "shared": lambda: by_us(study_in("shared"), source, apart=False),
            "by_hand": lambda: by_hand(study_in("apart"), Library()),
        }
        # What goes first warms the machine for what follows, so they take turns.
        measured = {name: loops[name]() for name in (loops if number % 2 == 0 else reversed(loops))}
    apart, shared, by_hand_ = (measured[name] for name in loops)
    ratios = {"apart to training alone": apart["seconds"] / (apart["update_seconds"] + apart["evaluation_seconds"])}
    for what, key in (("", "seconds"), (", processor", "processor_seconds")):
        ratios[f"shared to apart{what}"] = shared[key] / apart[key]
        ratios[f"apart to by hand{what}"] = apart[key] / by_hand_[key]
    return {name: measured[name] for name in loops} | {"ratios": {key: round(it, 4) for key, it in ratios.items()}}


def started_seconds_ago() -> float:
    return time.time() - psutil.Process().create_time()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--examples", type=int, nargs=3, default=[1600, 300, 1000], metavar=("TRAIN", "VALIDATION", "TEST")
    )
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--write", type=Path, default=Path(__file__).with_name("study.json"))
    arguments = parser.parse_args()
    imported = started_seconds_ago()
    examples = dict(zip(("train", "validation", "test"), arguments.examples, strict=True))
    size = {"schedules": arguments.schedules, "seeds": arguments.seeds, "examples": examples}
    rounds: list[dict[str, Any]] = []
    for number in range(arguments.rounds):
        rounds.append(one_round(number, **size))
        print(f"round {number + 1}: {rounds[-1]}", flush=True)
    result = {
        "recipe": RECIPE.name,
        "hardware": describe_processor(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "runs": arguments.schedules * arguments.seeds,
        "examples": examples,
        "import_seconds": round(imported, 2),
        "rounds": rounds,
        "median": {name: statistics.median(each["ratios"][name] for each in rounds) for name in rounds[0]["ratios"]},
        "targets": TARGETS,
    }
    arguments.write.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"median: {result['median']}; written to {arguments.write}")


if __name__ == "__main__":
    main()
