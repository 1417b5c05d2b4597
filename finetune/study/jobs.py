"""The runs of a study: what each is for, and how one is made."""

from __future__ import annotations

import gc
import math
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from finetune.errors import RunStopped
from finetune.evaluation.direction import MORE_IS_BETTER, Direction
from finetune.evaluation.record import MODEL, RECORD, RungPart, RunRecord, StudyPart, read_record, write_record
from finetune.recipe import Recipe, Rung, Setting, Study, for_tuning, with_peak, with_seed
from finetune.training import fine_tune, is_main_process, run_directory
from finetune.training.checkpoints import Checkpoint
from finetune.training.material import Library
from finetune.training.stopping import StopRequest
from finetune.untrusted import presentable

Status = Literal["finished", "diverged", "failed"]
_ALL: Mapping[int, Collection[float]] = {}


@dataclass(frozen=True)
class Job:
    """One run: `setting` is the number of the study's setting it belongs to."""

    setting: int
    recipe: Recipe
    part: StudyPart
    label: str

    @property
    def role(self) -> str:
        """What the run is for, in a word, and on which of several rungs."""
        rung = self.part.rung
        return self.part.role if rung is None else f"{self.part.role} {rung.number}/{rung.of}"


@dataclass(frozen=True)
class Done:
    """What came of a job. `score`: the best on validation, by the metric that selects, of which more is better or, by
    its `direction`, less; `found`: whether it was recorded before."""

    job: Job
    status: Status
    score: float | None = None
    total_steps: int | None = None
    seconds: float = 0.0
    found: bool = False
    problem: str = ""
    direction: Direction = MORE_IS_BETTER


def tuning_jobs(study: Study, rung: Rung | None = None, left: Mapping[int, Collection[float]] = _ALL) -> Iterator[Job]:
    """Yields the runs of the study's share that choose peak rates, seed by seed: on `rung`, the first unless given.

    `left`: number of the setting ▶ the peak rates that are left of it; all where it isn't there.
    """
    tuning = study.block.tuning
    if tuning is None:
        return
    rung = rung or tuning.rungs[0]
    for seed in tuning.seeds:
        for number, setting in enumerate(study.settings):
            if not study.share.has(number):
                continue
            peaks = peaks_of(study, number)
            part = RungPart(number=rung.number, of=rung.of, peaks=list(peaks)) if rung.of > 1 else None
            for peak in peaks:
                if peak in left.get(number, peaks):
                    recipe = for_tuning(with_seed(with_peak(setting.recipe, peak), seed), rung)
                    yield _job(study, "tuning", number, recipe, part)


def peaks_of(study: Study, number: int) -> tuple[float, ...]:
    """Returns the peak rates that are tried for a setting, in the order of the factors."""
    own = study.settings[number].recipe.optimizer.learning_rate
    factors = study.block.tuning.factors if study.block.tuning else ()
    return tuple(float(f"{own * factor:.12g}") for factor in factors)  # 3 · 0.0002 is no 0.0006


def final_jobs(study: Study, peaks: Mapping[int, float]) -> Iterator[Job]:
    """Yields the share's runs that are compared, seed by seed, so that what is there by then can be compared already.

    `peaks`: number of the setting ▶ the peak rate chosen for it.
    """
    for place, seed in enumerate(study.seeds):
        for number, setting in enumerate(study.settings):
            if not study.makes(number, place):
                continue
            peak = peaks.get(number, setting.recipe.optimizer.learning_rate)
            yield _job(study, "final", number, with_seed(with_peak(setting.recipe, peak), seed))


def _job(
    study: Study, role: Literal["tuning", "final"], number: int, recipe: Recipe, rung: RungPart | None = None
) -> Job:
    block = study.block
    part = StudyPart(
        name=study.name,
        role=role,
        keys=list(study.keys),
        tuned=list(study.tuned),
        reference=block.reference,
        equivalence=block.equivalence,
        target=block.target,
        rung=rung,
    )
    label = (
        f"{describe(study.settings[number])}, peak {recipe.optimizer.learning_rate:.3g}, seed {recipe.training.seed}"
    )
    return Job(number, recipe, part, label)


def describe(setting: Setting) -> str:
    """Returns the setting in few words: schedule, optimizer, and whatever else the study varies."""
    named = {"schedule": setting.recipe.schedule.name, "optimizer": setting.recipe.optimizer.name}
    words = [
        _own_settings(named[key], value) if key in named else f"{key.rpartition('.')[2]} {value}"
        for key, value in setting.values.items()
    ]
    return ", ".join(words) or setting.recipe.schedule.name


def _own_settings(name: str, value: Any) -> str:
    own = (
        {key: item for key, item in value.items() if key not in ("name", "learning_rate")}
        if isinstance(value, dict)
        else {}
    )
    return " ".join([name, *(f"{key} {item}" for key, item in own.items())])


def perform(
    job: Job,
    *,
    trunk: Checkpoint | None,
    source: Path,
    library: Library,
    stop: StopRequest,
    keep_model: bool,
    catch: bool,
) -> Done:
    """Makes one run, on from `trunk` if there is one, or finds it recorded.

    With `catch`, an error is an outcome, as the other runs go on. Raises RunStopped where `stop` hears that the study
    is to stop.
    """
    if catch and stop.reason is not None:
        raise RunStopped(stop.reason)
    run = run_directory(job.recipe, source=source)
    found = (run / RECORD).exists()
    try:
        record = fine_tune(
            job.recipe,
            source=source,
            console=Console(quiet=True),
            study=job.part,
            trunk=trunk,
            library=library,
            stop=stop,
        )
    except Exception as error:
        if not catch:
            raise
        return Done(job, "failed", problem=presentable(f"{type(error).__name__}: {error}"))
    finally:
        gc.collect()  # a trainer refers to itself, and would keep its model in memory beside the next
    if found and record.study != job.part and is_main_process():
        write_record(run, read_record(run).model_copy(update={"study": job.part}))
    if not keep_model and is_main_process():
        shutil.rmtree(run / MODEL, ignore_errors=True)
    return outcome_of(job, record, found=found)


def outcome_of(job: Job, record: RunRecord, *, found: bool) -> Done:
    """Returns what came of a job by the record of its run."""
    score = record.results.best.validation[record.results.select] if record.results else None
    return Done(
        job,
        record.status,
        score=None if score is None or not math.isfinite(score) else score,
        total_steps=record.schedule.total_steps,
        seconds=record.timing.total_seconds,
        found=found,
        direction=Direction(record.results is None or record.results.greater_is_better),
    )
