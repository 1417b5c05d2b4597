"""Runs of a study that have a start in common, made together: a trunk once, and every run from the end of its own."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from finetune.evaluation.record import RECORD
from finetune.study.courses import plan_trunks
from finetune.study.jobs import Done, Job, perform
from finetune.study.trunks import Segment, Tree
from finetune.training import is_main_process, run_directory
from finetune.training.checkpoints import Checkpoint
from finetune.training.fine_tuning import train_trunk
from finetune.training.material import Library
from finetune.training.stopping import StopRequest

TRUNKS = "trunks"


@dataclass(frozen=True)
class Grove:
    """Jobs, and the segments that make their runs: of each the updates, the jobs it is made for, and its parent."""

    jobs: tuple[Job, ...]
    segments: tuple[Segment, ...] = ()


def each_alone(jobs: Sequence[Job]) -> list[Grove]:
    """Returns `jobs` as groves of one."""
    return [Grove((job,)) for job in jobs]


def plan_groves(jobs: Sequence[Job], *, library: Library, workers: int = 1) -> list[Grove]:
    """Returns the groves of `jobs`, in the order of their first; each job by itself where groves are too few to share.

    Each of several `workers` makes a grove at a time.
    """
    groves = _apart(plan_trunks(jobs, library=library))
    if len(groves) < workers:
        return each_alone(jobs)
    return [Grove(tuple(jobs[run] for run in runs), segments) for runs, segments in groves]


def _apart(tree: Tree) -> list[tuple[tuple[int, ...], tuple[Segment, ...]]]:
    """Returns the runs of each root of `tree`, and its segments, whose runs and parents are numbered from 0 in each."""
    places: dict[int, int] = {}
    found: list[tuple[tuple[int, ...], list[Segment]]] = []
    for number, segment in enumerate(tree.segments):
        if segment.parent is None:
            found.append((segment.runs, []))
        runs, segments = found[-1]
        places[number] = len(segments)
        parent = None if segment.parent is None else places[segment.parent]
        segments.append(Segment(segment.start, segment.end, tuple(map(runs.index, segment.runs)), parent))
    return sorted((runs, tuple(segments)) for runs, segments in found)


def perform_grove(
    grove: Grove, *, source: Path, library: Library, stop: StopRequest, keep_model: bool, catch: bool
) -> Iterator[Done]:
    """Makes the runs of a grove; yields each as it ends. With `catch`, an error is an outcome, as the others go on.

    A trunk that fails or diverges leaves its runs to go on from the trunk before it, and to see for themselves.
    """

    def make(job: Job, trunk: Checkpoint | None) -> Done:
        return perform(job, trunk=trunk, source=source, library=library, stop=stop, keep_model=keep_model, catch=catch)

    if len(grove.jobs) == 1:
        yield make(grove.jobs[0], None)
        return
    ends: dict[int | None, Checkpoint | None] = {None: None}
    folders: list[Path] = []
    for number, segment in enumerate(grove.segments):
        before = ends[segment.parent]
        if len(segment.runs) == 1:
            yield make(grove.jobs[segment.runs[0]], before)
            continue
        further = {run for later in grove.segments if later.parent == number for run in later.runs}
        # One that ended here would evaluate here, whether or not those that go on do.
        job = grove.jobs[min(further or segment.runs)]
        ends[number] = before
        if not all((run_directory(grove.jobs[run].recipe, source=source) / RECORD).exists() for run in segment.runs):
            folders.append(_folder(job, segment.end, source=source))
            with suppress(*([Exception] if catch else [])):
                ends[number] = _train(job, segment.end, folders[-1], before, library, stop) or before
        for run in sorted(set(segment.runs) - further):
            yield make(grove.jobs[run], ends[number])
    if is_main_process():
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


def _train(
    job: Job, until: int, folder: Path, before: Checkpoint | None, library: Library, stop: StopRequest
) -> Checkpoint | None:
    try:
        return train_trunk(
            job.recipe,
            folder=folder,
            until=until,
            trunk=before,
            library=library,
            console=Console(quiet=True),
            stop=stop,
        )
    finally:
        gc.collect()  # a trainer refers to itself, and would keep its model in memory beside the next


def _folder(job: Job, until: int, *, source: Path) -> Path:
    run = run_directory(job.recipe, source=source)
    return run.parent / TRUNKS / f"{run.name}-to-{until}"
