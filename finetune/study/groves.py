"""Runs of a study that have a start in common, made together: a trunk once, and every run from the end of its own."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
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
class Step:
    """What is made in one go: a trunk, the runs that end with it, or a run alone, from where step `parent` ended.

    `trunk`: the run whose updates before `until` are made, for all runs in `passing`; None where nothing is shared.
    """

    ending: tuple[Job, ...]
    parent: int | None = None
    trunk: Job | None = None
    until: int = 0
    passing: tuple[Job, ...] = ()

    def is_recorded(self, *, source: Path) -> bool:
        """Whether every run that it is made for has a record."""
        runs = (run_directory(job.recipe, source=source) for job in (*self.ending, *self.passing))
        return all((run / RECORD).exists() for run in runs)

    def folder(self, *, source: Path) -> Path | None:
        """Returns where its trunk lies, if it has one."""
        if self.trunk is None:
            return None
        run = run_directory(self.trunk.recipe, source=source)
        return run.parent / TRUNKS / f"{run.name}-to-{self.until}"


@dataclass(frozen=True)
class Grove:
    """Jobs, and the segments that make their runs: of each the updates, the jobs it is made for, and its parent."""

    jobs: tuple[Job, ...]
    segments: tuple[Segment, ...] = ()

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """What there is to make, each step after the one that it goes on from."""
        if len(self.jobs) == 1:
            return (Step(self.jobs),)
        return tuple(self._step(number, segment) for number, segment in enumerate(self.segments))

    def _step(self, number: int, segment: Segment) -> Step:
        jobs = self.jobs
        if len(segment.runs) == 1:
            return Step((jobs[segment.runs[0]],), segment.parent)
        further = {run for later in self.segments if later.parent == number for run in later.runs}
        ending = tuple(jobs[run] for run in sorted(set(segment.runs) - further))
        # One that ended here would evaluate here, whether or not those that go on do.
        trunk = jobs[min(further or segment.runs)]
        return Step(ending, segment.parent, trunk, segment.end, tuple(jobs[run] for run in segment.runs))


def each_alone(jobs: Sequence[Job]) -> list[Grove]:
    """Returns `jobs` as groves of one."""
    return [Grove((job,)) for job in jobs]


def plan_groves(jobs: Sequence[Job], *, library: Library, least: int = 1) -> list[Grove]:
    """Returns the groves of `jobs`, in the order of their first; each job by itself where there are fewer than `least`.

    So it is where each of several workers makes a grove at a time, of which there must be one for each.
    """
    groves = _apart(plan_trunks(jobs, library=library))
    if len(groves) < least:
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
    ends: dict[int | None, Checkpoint | None] = {None: None}
    for number, step in enumerate(grove.steps):
        ends[number] = yield from perform_step(
            step,
            ends[step.parent],
            source=source,
            library=library,
            stop=stop,
            keep_model=keep_model,
            catch=catch,
        )
    remove_trunks(grove, source=source)


def perform_step(
    step: Step,
    before: Checkpoint | None,
    *,
    source: Path,
    library: Library,
    stop: StopRequest,
    keep_model: bool,
    catch: bool,
) -> Generator[Done, None, Checkpoint | None]:
    """Makes a step, on from `before`; yields each run as it ends, and returns what those after it go on from.

    A trunk is left out where every run that it would be made for is recorded. `catch` is as for `perform_grove`.
    """
    end, folder = before, step.folder(source=source)
    if step.trunk is not None and folder is not None and not step.is_recorded(source=source):
        with suppress(*([Exception] if catch else [])):
            end = _train(step.trunk, step.until, folder, before, library, stop) or before
    for job in step.ending:
        yield perform(job, trunk=end, source=source, library=library, stop=stop, keep_model=keep_model, catch=catch)
    return end


def remove_trunks(grove: Grove, *, source: Path) -> None:
    """Removes the trunks of a grove, whose runs are made."""
    if is_main_process():
        for step in grove.steps:
            folder = step.folder(source=source)
            if folder is not None:
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
