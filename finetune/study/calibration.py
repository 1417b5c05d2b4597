"""How many runs of a study to make at once, found by a few updates of one of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import torch
from rich.console import Console

from finetune.errors import RunError
from finetune.recipe import Recipe
from finetune.training.fine_tuning import train_trunk
from finetune.training.layout import layout_of
from finetune.training.material import Library
from finetune.training.stopping import StopRequest

GAIN = 1.1
"""By how much more workers must be faster than fewer, which need less memory, to be chosen."""
MOST_ON_A_GPU = 8
SHARE_OF_MEMORY = 0.8


Row = dict[str, Any]
_Trying = Callable[[int], Sequence[Row]]


def calibrate(recipe: Recipe, *, runs: int, library: Library) -> tuple[int, str]:
    """Returns how many of `runs` runs like that of `recipe` to make at once on this machine, and why, in words.

    Nothing is tried where there is no choice. Raises RunError where the run diverges at once.
    """
    if runs <= 1:
        return 1, f"{runs} left to be made"
    device = layout_of(recipe).device
    trying = partial(_rows, recipe, library=library)
    return _for_gpu(device, runs, trying) if device.type == "cuda" else _for_cpu(runs, trying)


def _for_cpu(runs: int, trying: _Trying) -> tuple[int, str]:
    threads, cores, speeds = torch.get_num_threads(), os.cpu_count() or 1, {}
    try:
        for workers in candidates(cores=cores, runs=runs):
            torch.set_num_threads(cores // workers)
            speeds[workers] = workers / seconds_of_update(trying(8), first=3)
    finally:
        torch.set_num_threads(threads)
    return fastest(speeds), ", ".join(
        f"{speed:.3g} updates a second with {workers}" for workers, speed in speeds.items()
    )


def _for_gpu(device: torch.device, runs: int, trying: _Trying) -> tuple[int, str]:
    seconds = seconds_of_update(trying(40), first=20)
    busy = busy_seconds(lambda: trying(20)) / 20
    free = torch.cuda.mem_get_info(device)[0] * SHARE_OF_MEMORY
    on_each = fitting(seconds=seconds, busy=busy, memory=torch.cuda.max_memory_reserved(device), free=free)
    chosen = min(on_each * torch.cuda.device_count(), os.cpu_count() or 1, runs)
    return chosen, f"one run keeps a GPU busy for {min(1.0, busy / seconds):.0%} of its time"


def candidates(*, cores: int, runs: int) -> list[int]:
    """Returns the numbers of workers to try on a CPU: powers of 2, up to a core for each and a run for each.

    As many as memory holds, each with what this process holds now, which has the libraries and the data loaded.
    """
    held = psutil.Process().memory_info().rss
    most = min(cores, runs, max(1, int(psutil.virtual_memory().available * SHARE_OF_MEMORY / held)))
    return [2**power for power in range(most.bit_length())]


def fastest(speeds: Mapping[int, float]) -> int:
    """Returns the number of workers, of those in ascending order, beyond which more gain less than `GAIN`."""
    best = next(iter(speeds))
    for workers, speed in speeds.items():
        if speed >= GAIN * speeds[best]:
            best = workers
    return best


def fitting(*, seconds: float, busy: float, memory: float, free: float) -> int:
    """Returns how many runs a GPU takes side by side, by its time and by its `free` bytes.

    An update takes `seconds`, for `busy` seconds of which the GPU computes; a run needs `memory` bytes.
    """
    return max(1, min(MOST_ON_A_GPU, round(seconds / max(busy, 1e-9)), int(free / max(memory, 1.0))))


def seconds_of_update(rows: Sequence[Row], *, first: int) -> float:
    """Returns the mean seconds of an update, the `first` ones left out, of which there must be more."""
    seconds = [row["seconds"] for row in rows if "rates" in row]
    return float((seconds[-1] - seconds[first - 1]) / (len(seconds) - first))


def _rows(recipe: Recipe, updates: int, *, library: Library) -> Sequence[Row]:
    """Returns the history of a run's first updates; raises RunError where it diverges in them."""
    brief = recipe.model_copy(update={"training": recipe.training.model_copy(update={"duration": updates + 1})})
    with TemporaryDirectory() as folder:
        trunk = train_trunk(
            brief, folder=Path(folder), until=updates, library=library, console=Console(quiet=True), stop=StopRequest()
        )
    if trunk is None:
        raise RunError("workers: auto can't be told: the first run diverges at once; give their number")
    return trunk.rows


def busy_seconds(work: Callable[[], object]) -> float:
    """Returns the seconds for which the GPU was busy during `work`."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        work()
    kernels = (event for event in profiled.key_averages() if event.device_type.name == "CUDA")
    return float(sum(kernel.self_device_time_total for kernel in kernels)) / 1e6
