"""What a checkpoint costs beyond writing its files, and what it costs to ask in every update whether to stop.

    .venv/bin/python scripts/bench/checkpoints.py --rounds 15

A run of MiniLM, and one of a BERT-base of random weights, halt at a checkpoint, which is written again and again, three
ways in turn: its files alone, which is done when they are in memory (cached); each of them flushed to disk too, without
which they wouldn't outlive a power failure (flushed); and as a run does, hashed and listed in a manifest too (ours).
What is asked in every update is timed by itself, and set against the time of an update.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import socket
import statistics
import tempfile
import time
import timeit
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from accelerate import Accelerator
from models import RECIPE, save_bert_base
from rich.console import Console

from finetune.evaluation.record import read_history
from finetune.recipe import load_recipe
from finetune.training import checkpoints, fine_tune, run_directory, whole_folders
from finetune.training.environment import describe_processor
from finetune.training.history import HEARD_WITHIN, READ_EVERY
from finetune.training.stopping import StopRequest

WARMUP_UPDATES = 4
TARGETS = {"ours to flushed": 1.10, "asking to an update": 0.001}


def flush_alone(folder: Path, **_: Any) -> None:
    """Stands in for `seal`: flushes every file, and nothing else."""
    for path in folder.iterdir():
        whole_folders.flush(path)


def nothing(*_: Any, **__: Any) -> None:
    """Stands in for what isn't done."""


WAYS: dict[str, dict[str, Callable[..., None]]] = {
    "cached": {"whole_folders.seal": nothing, "whole_folders.flush": nothing, "checkpoints.flush": nothing},
    "flushed": {"whole_folders.seal": flush_alone},
    "ours": {},
}


@contextmanager
def patched(functions: dict[str, Callable[..., None]]) -> Iterator[None]:
    with ExitStack() as stack:
        for name, function in functions.items():
            stack.enter_context(patch(f"finetune.training.{name}", function))
        yield


class Timed:
    """Seconds by name, of functions that may be at work at once."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def of(self, name: Callable[..., str] | str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns `function`, the time of each call added to its name, which may depend on the arguments."""

        def call(*args: Any, **kwargs: Any) -> Any:
            key = name if isinstance(name, str) else name(*args)
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[key] = self.seconds.get(key, 0.0) + time.perf_counter() - began

        return call


def parts(write: Callable[[], None]) -> dict[str, float]:
    """Returns the seconds of the parts of ours; all files are flushed at once, and hashed meanwhile, in sealing."""
    timed = Timed()
    flush = timed.of(
        lambda path: "flushing folders" if path.is_dir() else "flushing files, added up", whole_folders.flush
    )
    functions = {
        "whole_folders.replace_folder": timed.of("all but the last flush", whole_folders.replace_folder),
        "whole_folders.seal": timed.of("sealing", whole_folders.seal),
        "whole_folders._hash": timed.of("hashing", whole_folders._hash),
        "whole_folders.flush": flush,
        "checkpoints.flush": flush,
    }
    with patched(functions), patch.object(Path, "rename", timed.of("renaming", Path.rename)):
        write()
    timed.seconds["serialising"] = timed.seconds.pop("all but the last flush") - timed.seconds["sealing"]
    return timed.seconds


class Rounds:
    """Stands in for `write_checkpoint` in a run: writes it `count` times each way, taking turns."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.measured: list[dict[str, float]] = []
        self.parts: list[dict[str, float]] = []
        self.bytes = 0

    def __call__(self, trainer: Any, run: Path, **kwargs: Any) -> None:
        folder = run / checkpoints.CHECKPOINTS / f"checkpoint-{trainer.state.global_step}"

        def write() -> None:
            checkpoints.write_checkpoint(trainer, run, **kwargs)

        for number in range(-1, self.count):  # the first fills memory that is never given back
            names = list(WAYS)
            turn = number % len(names)
            taken = {name: self._seconds(name, write, folder) for name in names[turn:] + names[:turn]}
            self._clear(folder)
            told = parts(write)
            if number >= 0:
                self.measured.append({name: taken[name] for name in WAYS})
                self.parts.append(told)
        self.bytes = sum(path.stat().st_size for path in folder.iterdir())

    def _seconds(self, name: str, write: Callable[[], None], folder: Path) -> float:
        self._clear(folder)
        with patched(WAYS[name]):
            began = time.perf_counter()
            write()
            return time.perf_counter() - began

    def _clear(self, folder: Path) -> None:
        """Has the disk at rest before anything is timed."""
        shutil.rmtree(folder, ignore_errors=True)
        os.sync()

    def result(self) -> dict[str, Any]:
        """Returns medians over rounds, of ratios too: those of one round were measured within seconds."""
        ratios = [
            {f"ours to {name}": each["ours"] / each[name] for name in ("cached", "flushed")} for each in self.measured
        ]
        return {
            "megabytes": round(self.bytes / 1e6, 1),
            "seconds": medians(self.measured),
            "parts of ours": medians(self.parts),
            "ratio": medians(ratios),
            "quartiles": {
                name: [round(cut, 3) for cut in statistics.quantiles([each[name] for each in ratios], n=4)[::2]]
                for name in ratios[0]
            },
        }


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(statistics.median(each[name] for each in rounds), 4) for name in rounds[0]}


def measure_run(model: Path | None, *, updates: int, rounds: int) -> tuple[dict[str, Any], float]:
    """Returns what checkpoints cost a run from `model` (None: the recipe's), and the seconds of an update of it."""
    writing = Rounds(rounds)
    with tempfile.TemporaryDirectory() as folder, patch("finetune.training.one_run.write_checkpoint", writing):
        overrides = [
            *([f"model.path={model}"] if model else []),
            f"training.duration={updates}",
            "data.examples={train: 1600, validation: 32, test: 32}",
            "evaluation.every=null",
            f"checkpoints.every={updates - 1}",
            f"output={folder}",
        ]
        recipe = load_recipe(RECIPE, overrides)
        fine_tune(recipe, source=RECIPE, console=Console(quiet=True))
        rows = [row for row in read_history(run_directory(recipe, source=RECIPE)) if "rates" in row]
    seconds = [row["seconds"] for row in rows[min(WARMUP_UPDATES, updates - 2) :]]
    return writing.result(), statistics.median(after - before for before, after in itertools.pairwise(seconds))


def microseconds(function: Callable[[], Any], number: int) -> float:
    return min(timeit.repeat(function, number=number, repeat=5)) / number * 1e6


def ask_alone() -> float:
    """Returns the microseconds of asking once, in a process that is to end with the one that started it."""
    stop = StopRequest()
    stop._parent = os.getppid()
    return microseconds(lambda: stop.reason, 100_000)


def reduce_in_two(rounds: int) -> dict[str, float]:
    """Returns the microseconds of one reduction over two processes: of what training needs, and with what asks."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        torch.multiprocessing.spawn(_reduce, (port, result, rounds), nprocs=2)
        measured: dict[str, float] = json.loads(result.read_text(encoding="utf-8"))
    return measured


def _reduce(rank: int, port: int, result: Path, rounds: int) -> None:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in place.items()} | {"OMP_NUM_THREADS": "1"}
    accelerator = Accelerator(cpu=True)
    stop = StopRequest()
    rows = torch.rand(2, READ_EVERY)

    def without() -> None:
        accelerator.reduce(torch.stack([*rows]), "mean").tolist()

    def asking() -> None:
        calls = torch.full_like(rows[0], float(stop.reason is not None))
        seconds = torch.full_like(rows[0], 1.0)
        accelerator.reduce(torch.stack([*rows, calls, seconds]), "mean").tolist()

    ways = {"without": without, "asking": asking}
    measured = [{name: timeit.timeit(way, number=200) / 200 * 1e6 for name, way in ways.items()} for _ in range(rounds)]
    if rank == 0:
        result.write_text(json.dumps(medians(measured)), encoding="utf-8")
    torch.distributed.destroy_process_group()


def asking(update_seconds: float, rounds: int) -> dict[str, Any]:
    """Returns what it costs to ask, in microseconds and as shares of an update.

    One process asks in every update, and once more when the history is read. Two ask when it is read, in a reduction
    made for that anyway, but reduce more often than in every tenth update where they would be heard too late otherwise.
    """
    once, reduction = ask_alone(), reduce_in_two(rounds)
    read_every = max(1, min(READ_EVERY, int(HEARD_WITHIN / update_seconds)))
    alone = once * (1 + 1 / READ_EVERY)
    in_two = reduction["asking"] / read_every - reduction["without"] / READ_EVERY
    return {
        "microseconds of asking": round(once, 3),
        "microseconds of a reduction": reduction,
        "updates between two reductions": read_every,
        "seconds of an update": round(update_seconds, 4),
        "share of an update": {
            name: float(f"{cost / update_seconds / 1e6:.2g}")
            for name, cost in (("one process", alone), ("two", in_two))
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--updates", type=int, default=24, help="of the run of MiniLM, whose median is taken")
    parser.add_argument("--write", type=Path, default=Path(__file__).with_name("checkpoints.json"))
    arguments = parser.parse_args()
    minilm, update_seconds = measure_run(None, updates=arguments.updates, rounds=arguments.rounds)
    print(f"MiniLM: {minilm}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        base, _ = measure_run(save_bert_base(Path(folder) / "model"), updates=3, rounds=arguments.rounds)
    print(f"BERT-base: {base}", flush=True)
    result = {
        "hardware": describe_processor(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "rounds": arguments.rounds,
        "MiniLM": minilm,
        "BERT-base": base,
        "asking whether to stop": asking(update_seconds, arguments.rounds),
        "targets": TARGETS,
    }
    arguments.write.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"asking: {result['asking whether to stop']}; written to {arguments.write}")


if __name__ == "__main__":
    main()
