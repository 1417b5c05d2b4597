"""Runs a study: in this process, which loads libraries and data once, or in several."""

from __future__ import annotations

import gc
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from rich.console import Console

from finetune.errors import DeviceError, RunStopped, SettingError
from finetune.recipe import Study
from finetune.study.calibration import calibrate
from finetune.study.courses import plan_trunks, unrecorded
from finetune.study.groves import TRUNKS, Grove, each_alone, perform_grove, plan_groves
from finetune.study.halving import describe_savings, foresee, lay_out_setting
from finetune.study.jobs import Done, Job, final_jobs, tuning_jobs
from finetune.study.ledger import check_name, study_directory, write_ledger
from finetune.study.peaks import Choice, choose, equal_area_peaks, left_for
from finetune.study.progress import StudyProgress
from finetune.study.trunks import describe
from finetune.training import check_trackers, is_main_process
from finetune.training.adapters import check_adapter
from finetune.training.material import Library
from finetune.training.progress import say
from finetune.training.stopping import StopRequest

HEARD_WITHIN = 0.5  # seconds until workers are told of a signal to the process that began them


@dataclass(frozen=True)
class Outcome:
    """What came of a study: the directory of its runs, the choices by setting, and every run."""

    directory: Path
    choices: Mapping[int, Choice]
    runs: tuple[Done, ...]

    @property
    def failed(self) -> tuple[Done, ...]:
        """The runs that ended in an error; those that diverged are recorded as such, and not among them."""
        return tuple(done for done in self.runs if done.status == "failed")


def run_study(
    study: Study,
    *,
    source: Path,
    console: Console,
    workers: int | Literal["auto"] = 1,
    apart: bool = False,
    trust_remote_code: bool = False,
) -> Outcome:
    """Makes every run of `study`, read from the file `source`, that isn't recorded yet, and returns what came of all.

    First those that choose peak rates, then, seed by seed, those that are compared. The updates that runs have in
    common are made once, unless they are to be made `apart`; that changes no result. A run that fails is written down
    and the others go on. With several `workers`, each is a process with its share of the threads and of the GPUs. Under
    a launcher every process calls this. `trust_remote_code`: whether code that comes with a model may run. Raises
    FinetuneError, before any run, for whatever the data, a setting or the machine can't give, and where another study
    has the name; RunStopped, once the runs that were going on have saved a checkpoint, where it is told to stop.
    """
    _check_workers(workers)
    console.quiet = console.quiet or not is_main_process()
    check_name(study, source=source)
    check_trackers(study.settings[0].recipe.tracking)
    library = Library(keep_weights=True, trust_remote_code=trust_remote_code)
    for setting in study.settings:
        check_adapter(setting.recipe.adapter)
        lay_out_setting(study, setting, library=library)
    if workers == "auto":
        runs = sum(len(jobs) for _, jobs in _left(study, source=source, library=library))
        workers, why = calibrate(study.settings[0].recipe, runs=runs, library=library)
        say(console, f"{workers} runs at once: {why}")
    progress = StudyProgress(study, console, workers=workers)
    make = partial(perform_grove, source=source, keep_model=study.block.keep_models)
    plan = each_alone if apart else partial(plan_groves, library=library, workers=workers)
    stop = StopRequest()
    with (
        stop.listening(),
        _performing(make, library, stop, workers) as perform_all,
        _left_alone_by_the_collector(),
        progress,
    ):
        tuned: list[Done] = []
        for rung in study.rungs:
            jobs = list(tuning_jobs(study, rung, left_for(study, rung, tuned)))
            tuned += [progress.show(done) for done in perform_all(plan(jobs))]
        choices = choose(study, tuned)
        peaks = {number: choice.peak for number, choice in choices.items()}
        if study.block.equal_area:
            peaks = equal_area_peaks(study, library)
        _write(study, source, choices, peaks, tuned)
        final = [progress.show(done) for done in perform_all(plan(list(final_jobs(study, peaks))))]
    outcome = Outcome(study_directory(study), choices, (*tuned, *final))
    for left in outcome.directory.rglob(TRUNKS) if is_main_process() and study.share.is_whole else ():
        shutil.rmtree(left, ignore_errors=True)
    _write(study, source, choices, peaks, outcome.runs)
    return outcome


def plan_study(study: Study, *, source: Path) -> list[str]:
    """Returns lines that show which updates the runs of `study` that aren't recorded yet have in common.

    Peak rates that are still to be chosen are taken to be the same for all settings, and those that are still to go on
    to a longer rung to be the first. Raises FinetuneError as `run_study`.
    """
    check_name(study, source=source)
    library = Library()
    horizons = [lay_out_setting(study, setting, library=library) for setting in study.settings]
    lines = []
    for title, jobs in _left(study, source=source, library=library):
        lines += [f"{title}: {len(jobs):,} runs", *describe(plan_trunks(jobs, library=library))]
    return [*lines, *describe_savings(study, horizons)] if lines else ["every run is recorded"]


def _left(study: Study, *, source: Path, library: Library) -> Iterator[tuple[str, list[Job]]]:
    """Yields what runs are for, and those of them that aren't recorded yet; nothing for which all are."""
    tuning = foresee(study, source=source)
    peaks = equal_area_peaks(study, library) if study.block.equal_area else tuning.peaks
    for title, jobs in (*tuning.jobs.items(), ("final", list(final_jobs(study, peaks)))):
        left = unrecorded(jobs, source=source)
        if left:
            yield title, left


def _write(
    study: Study, source: Path, choices: Mapping[int, Choice], peaks: Mapping[int, float], runs: Iterable[Done]
) -> None:
    if is_main_process():
        failed = [done for done in runs if done.status == "failed"]
        write_ledger(study, source=source, choices=choices, peaks=peaks, failed=failed)


def _check_workers(workers: int | Literal["auto"]) -> None:
    if workers != "auto" and workers < 1:
        raise SettingError("workers", f"{workers} must be 1 or more, or auto")
    if workers != 1 and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise DeviceError("workers: a launcher's processes share each run, so give no workers beside them")


@contextmanager
def _left_alone_by_the_collector() -> Iterator[None]:
    """Spares all that libraries and data hold the walks of the garbage collector, which each run asks for twice."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


_PerformAll = Callable[[Sequence[Grove]], Iterator[Done]]
_Make = Callable[..., Iterator[Done]]


@contextmanager
def _performing(make: _Make, library: Library, stop: StopRequest, workers: int) -> Iterator[_PerformAll]:
    if workers == 1:
        alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
        yield lambda groves: (done for grove in groves for done in make(grove, library=library, stop=stop, catch=alone))
        return
    context = multiprocessing.get_context("spawn")
    numbers = context.Queue()
    for number in range(workers):
        numbers.put(number)
    begin = partial(_begin_worker, numbers, workers, trust_remote_code=library.trust_remote_code)
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=begin)
    try:
        yield partial(_perform_in, pool, make, stop)
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


def _begin_worker(numbers: multiprocessing.Queue[int], workers: int, *, trust_remote_code: bool) -> None:
    global _worker_library, _worker_stop
    import torch

    _worker_stop = StopRequest()
    _worker_stop.listen()

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
