"""Runs a study: what its runs are, in which order, and what comes of them; an engine makes them."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from finetune.recipe import Study
from finetune.study.courses import plan_trunks, unrecorded
from finetune.study.engines.base import Engine, Work
from finetune.study.engines.local import LocalEngine
from finetune.study.groves import TRUNKS, each_alone, plan_groves
from finetune.study.halving import describe_savings, foresee, lay_out_setting
from finetune.study.jobs import Done, Job, final_jobs, tuning_jobs
from finetune.study.ledger import check_name, study_directory, write_ledger
from finetune.study.peaks import Choice, choose, equal_area_peaks, left_for
from finetune.study.progress import StudyProgress
from finetune.study.trunks import describe
from finetune.training import check_trackers, is_main_process
from finetune.training.adapters import check_adapter
from finetune.training.material import Library
from finetune.training.stopping import StopRequest


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
    engine: Engine | None = None,
    apart: bool = False,
    trust_remote_code: bool = False,
) -> Outcome:
    """Makes every run of `study`, read from the file `source`, that isn't recorded yet, and returns what came of all.

    First those that choose peak rates, then, seed by seed, those that are compared. The updates that runs have in
    common are made once, unless they are to be made `apart`; that changes no result. A run that fails is written down
    and the others go on. `engine`: who makes them, this process unless given. Under a launcher every process calls
    this. `trust_remote_code`: whether code that comes with a model may run. Raises FinetuneError, before any run, for
    whatever the data, a setting or the machine can't give, and where another study has the name; RunStopped, once the
    runs that were going on have saved a checkpoint, where it is told to stop.
    """
    engine = engine or LocalEngine()
    engine.check()
    console.quiet = console.quiet or not is_main_process()
    check_name(study, source=source)
    check_trackers(study.settings[0].recipe.tracking)
    library = Library(keep_weights=True, trust_remote_code=trust_remote_code)
    for setting in study.settings:
        check_adapter(setting.recipe.adapter)
        lay_out_setting(study, setting, library=library)
    stop = StopRequest()
    count_left = partial(_count_left, study, source=source, library=library)
    work = Work(study, source, library, stop, console, count_left)
    with stop.listening(), engine.at_work(work) as hands, StudyProgress(study, console) as progress:
        plan = each_alone if apart else partial(plan_groves, library=library, least=hands.least_groves)
        tuned: list[Done] = []
        for rung in study.rungs:
            jobs = list(tuning_jobs(study, rung, left_for(study, rung, tuned)))
            tuned += [progress.show(done) for done in hands.perform(plan(jobs))]
        choices = choose(study, tuned)
        peaks = {number: choice.peak for number, choice in choices.items()}
        if study.block.equal_area:
            peaks = equal_area_peaks(study, library)
        _write(study, source, choices, peaks, tuned)
        final = [progress.show(done) for done in hands.perform(plan(list(final_jobs(study, peaks))))]
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


def _count_left(study: Study, *, source: Path, library: Library) -> int:
    return sum(len(jobs) for _, jobs in _left(study, source=source, library=library))


def _write(
    study: Study, source: Path, choices: Mapping[int, Choice], peaks: Mapping[int, float], runs: Iterable[Done]
) -> None:
    if is_main_process():
        failed = [done for done in runs if done.status == "failed"]
        write_ledger(study, source=source, choices=choices, peaks=peaks, failed=failed)
