"""Runs on this machine: in this process, which loads libraries and data once, or in several."""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from finetune.errors import DeviceError, RecipeError, RunStopped, SettingError
from finetune.recipe.plugins import run_plugin
from finetune.study.calibration import calibrate
from finetune.study.engines.base import Hands, Work
from finetune.study.groves import Grove, perform_grove
from finetune.study.jobs import Done
from finetune.training.material import Library
from finetune.training.progress import say
from finetune.training.stopping import StopRequest

HEARD_WITHIN = 0.5  # seconds until workers are told of a signal to the process that began them

_Make = Callable[..., Iterator[Done]]


@dataclass(frozen=True)
class LocalEngine:
    """`workers`: how many processes there are, each with its share of the threads and of the GPUs; with 1 it is this
    one, and under a launcher every one that it started; "auto" finds their number by a few updates."""

    workers: int | Literal["auto"] = 1

    def check(self) -> None:
        """As `Engine` says."""
        if self.workers != "auto" and self.workers < 1:
            raise SettingError("workers", f"{self.workers} must be 1 or more, or auto")
        if self.workers != 1 and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise DeviceError("workers: a launcher's processes share each run, so give no workers beside them")

    @contextmanager
    def at_work(self, work: Work) -> Iterator[Hands]:
        """As `Engine` says."""
        workers = self.workers
        if workers == "auto":
            workers, why = calibrate(work.study.settings[0].recipe, runs=work.count_left(), library=work.library)
            say(work.console, f"{workers} runs at once: {why}")
        make = partial(perform_grove, source=work.source, keep_model=work.study.block.keep_models)
        with _left_alone_by_the_collector():
            if workers == 1:
                yield Hands(partial(_perform_here, make, work))
            else:
                with _pool(work, workers) as pool:
                    yield Hands(partial(_perform_in, pool, make, work.stop), least_groves=workers)


@contextmanager
def _left_alone_by_the_collector() -> Iterator[None]:
    """Spares all that libraries and data hold the walks of the garbage collector, which each run asks for twice."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _perform_here(make: _Make, work: Work, groves: Sequence[Grove]) -> Iterator[Done]:
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    for grove in groves:
        yield from make(grove, library=work.library, stop=work.stop, catch=alone)


@contextmanager
def _pool(work: Work, workers: int) -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context("spawn")
    numbers = context.Queue()
    for number in range(workers):
        numbers.put(number)
    begin = partial(
        _begin_worker,
        numbers,
        workers,
        plugins=work.plugins,
        trust_remote_code=work.library.trust_remote_code,
    )
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=begin)
    try:
        yield pool
    except BaseException:
        for worker in multiprocessing.active_children():
            worker.terminate()  # by a SIGTERM, on which a run saves a checkpoint
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _perform_in(pool: ProcessPoolExecutor, make: _Make, stop: StopRequest, groves: Sequence[Grove]) -> Iterator[Done]:
    waiting = {pool.submit(_perform_in_worker, make, grove) for grove in groves}
    try:
        while waiting:
            ended, waiting = wait(waiting, timeout=HEARD_WITHIN, return_when=FIRST_COMPLETED)
            for future in ended:
                yield from future.result()
            if stop.reason is not None:
                raise RunStopped(stop.reason)
    except BrokenProcessPool as error:
        raise DeviceError(
            "workers: one died, as when memory runs out; the same command goes on with the runs that are left, "
            "with fewer workers if need be"
        ) from error


_worker_library: Library | None = None
_worker_stop: StopRequest | None = None


def _begin_worker(
    numbers: multiprocessing.Queue[int], workers: int, *, plugins: Sequence[Path], trust_remote_code: bool
) -> None:
    global _worker_library, _worker_stop
    import torch

    _worker_stop = StopRequest()
    _worker_stop.listen()
    for plugin in plugins:
        problem = run_plugin(plugin)
        if problem:
            raise RecipeError(f"plugins: {problem}")

    number = numbers.get()
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    if torch.cuda.is_available():
        torch.cuda.set_device(number % torch.cuda.device_count())
        os.environ["LOCAL_RANK"] = str(number % torch.cuda.device_count())
    _worker_library = Library(keep_weights=True, trust_remote_code=trust_remote_code)
    gc.collect()
    gc.freeze()


def _perform_in_worker(make: _Make, grove: Grove) -> list[Done]:
    assert _worker_library is not None and _worker_stop is not None  # noqa: S101, PT018 - the pool began the worker
    return list(make(grove, library=_worker_library, stop=_worker_stop, catch=True))
