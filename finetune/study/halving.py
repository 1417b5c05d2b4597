"""What successive halving is going to do: how long its rungs are, which runs they have, and what it saves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune.evaluation.record import read_record
from finetune.recipe import Recipe, Rung, Setting, Study
from finetune.study.courses import unrecorded
from finetune.study.jobs import Done, Job, outcome_of, peaks_of, tuning_jobs
from finetune.study.peaks import choose, left_for
from finetune.training import run_directory
from finetune.training.layout import Horizon, layout_of
from finetune.training.material import Library
from finetune.training.plan import lay_out_updates
from finetune.training.rungs import lay_out_rungs


def lay_out_setting(study: Study, setting: Setting, *, library: Library) -> list[int]:
    """Returns the updates of a run of `setting` on each rung; raises FinetuneError where one can't be laid out."""

    def lay_out(recipe: Recipe) -> Horizon:
        return lay_out_updates(recipe, layout=layout_of(recipe), library=library)[2]

    lay_out(setting.recipe)
    horizons = lay_out_rungs(setting.recipe, study.rungs, lay_out=lay_out)
    return [horizon.total_steps for horizon in horizons if horizon]


@dataclass(frozen=True)
class Foresight:
    """The jobs of each rung by its title, as far as records tell, and the peaks of the settings tuned by now."""

    jobs: Mapping[str, list[Job]]
    peaks: Mapping[int, float]


def foresee(study: Study, *, source: Path) -> Foresight:
    """Returns the tuning of `study`, read from the file `source`.

    Of a setting with runs still to be made, the peaks that go on to a longer rung are taken to be the first.
    """
    jobs: dict[str, list[Job]] = {}
    tuned: list[Done] = []
    whole = set(range(len(study.settings)))
    for rung in study.rungs:
        first = {number: list(peaks_of(study, number)[: rung.peaks]) for number in range(len(study.settings))}
        jobs[_title(rung)] = here = list(tuning_jobs(study, rung, first | left_for(study, rung, tuned)))
        whole -= {job.setting for job in unrecorded(here, source=source)}
        tuned = [_recorded(job, source=source) for each in jobs.values() for job in each if job.setting in whole]
    return Foresight(jobs, {number: choice.peak for number, choice in choose(study, tuned).items()})


def _recorded(job: Job, *, source: Path) -> Done:
    return outcome_of(job, read_record(run_directory(job.recipe, source=source)), found=True)


def _title(rung: Rung) -> str:
    return "tuning" if rung.of == 1 else f"tuning, {rung}"


def describe_savings(study: Study, horizons: Sequence[Sequence[int]]) -> list[str]:
    """Returns a line on what halving saves, `horizons` being the updates of each setting's rungs; none without it."""
    tuning = study.block.tuning
    if tuning is None or tuning.halving is None:
        return []
    counts = [rung.peaks * len(tuning.seeds) for rung in tuning.rungs]
    halved = sum(count * updates for each in horizons for count, updates in zip(counts, each, strict=True))
    full = sum(counts[0] * each[-1] for each in horizons)
    saved = f"{full - halved:,} ({(full - halved) / full:.1%}) saved"
    return [f"successive halving: {halved:,} updates of tuning instead of {full:,}: {saved}, before any is shared"]
