"""What can be said of the needs of a run or a study: memory, updates, and hours where a pace is known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.estimates.duration import MATTERING, Pace, among, pace_on_record

if TYPE_CHECKING:
    from finetune.estimates.memory import MemoryEstimate
    from finetune.recipe import Recipe, Study
    from finetune.training.material import Library
    from finetune.training.outlook import Outlook, StudyOutlook

OF_MEMORY = (*MATTERING, "data", "optimizer.momentum", "optimizer.centered", "evaluation.batch_size")
"""The blocks and keys of a recipe that decide how much memory it takes."""


@dataclass(frozen=True)
class Asked:
    """What an estimate is asked for: of how many `devices`, of how many bytes of `memory`, at how many `seconds` an
    update. Neither memory nor devices: none of memory is made, which needs no torch."""

    devices: int | None = None
    memory: int | None = None
    seconds: float | None = None

    @property
    def of_memory(self) -> bool:
        """Whether an estimate of memory is asked for."""
        return self.devices is not None or self.memory is not None


@dataclass(frozen=True)
class Sharing:
    """The runs of a study that are left to be made: their updates if each makes its own, and those that are saved."""

    runs: int
    updates: int
    saved: int


@dataclass(frozen=True)
class Estimate:
    """`memory`: of the setting that needs most, which is `setting` of a study; `updates`: of all that is to be made."""

    memory: MemoryEstimate | None
    setting: str | None
    sharing: Sharing | None
    updates: int | None
    pace: Pace | None

    @property
    def device_hours(self) -> float | None:
        """The hours of all devices together that the updates take; None where either isn't known."""
        return None if self.updates is None or self.pace is None else self.pace.device_hours(self.updates)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values."""
        return {
            "memory": self.memory and self.memory.to_dict(),
            "setting": self.setting,
            "sharing": self.sharing and asdict(self.sharing),
            "updates": self.updates,
            "pace": self.pace and self.pace.to_dict(),
            "device_hours": self.device_hours,
        }


def estimate_run(outlook: Outlook, asked: Asked) -> Estimate:
    """Returns what the run of `outlook` needs; raises FinetuneError where its model can't be made."""
    memory = None
    if asked.of_memory:
        from finetune.estimates.memory import estimate_memory
        from finetune.training.material import Library

        recipe = outlook.recipe
        memory = estimate_memory(recipe, Library().data(recipe), devices=asked.devices or 1, memory=asked.memory)
    updates = outlook.horizon.total_steps if outlook.horizon else None
    pace = _pace([outlook.recipe], asked, runs=outlook.run.parent)
    return Estimate(memory, None, None, updates, pace)


def estimate_study(outlook: StudyOutlook, asked: Asked, *, source: Path) -> Estimate:
    """Returns what the runs of a study, read from the file `source`, that are left need; raises as `estimate_run`."""
    memory, setting, sharing, updates = None, None, None, outlook.updates
    study = outlook.study
    if asked.of_memory:
        from finetune.training.material import Library

        library = Library()
        memory, setting = _most_memory(study, asked, library)
        sharing = share_updates(study, source=source, library=library)
        updates = sharing.updates - sharing.saved
    pace = _pace([each.recipe for each in study.settings], asked, runs=outlook.directory)
    return Estimate(memory, setting, sharing, updates, pace)


def _pace(recipes: Iterable[Recipe], asked: Asked, *, runs: Path) -> Pace | None:
    if asked.seconds is None:
        return pace_on_record(list(recipes), runs=runs)
    return Pace(asked.seconds, devices=asked.devices or 1, source="as given")


def _most_memory(study: Study, asked: Asked, library: Library) -> tuple[MemoryEstimate, str]:
    """Returns the estimate of the setting that needs most memory; those that differ in nothing that matters, once."""
    from finetune.estimates.memory import estimate_memory
    from finetune.study.jobs import describe

    kinds = {repr(among(setting.recipe.flatten(), OF_MEMORY)): setting for setting in reversed(study.settings)}
    found = [
        (
            estimate_memory(
                setting.recipe, library.data(setting.recipe), devices=asked.devices or 1, memory=asked.memory
            ),
            describe(setting),
        )
        for setting in reversed(kinds.values())
    ]
    return max(found, key=lambda each: each[0].shares[0].peak)


def share_updates(study: Study, *, source: Path, library: Library) -> Sharing:
    """Returns how many updates the runs of `study` that aren't recorded yet have, and have in common.

    Peak rates still to be chosen are taken as `finetune study --plan` takes them.
    """
    from finetune.study.courses import plan_trunks, unrecorded
    from finetune.study.halving import foresee
    from finetune.study.jobs import final_jobs
    from finetune.study.peaks import equal_area_peaks

    tuning = foresee(study, source=source)
    peaks = equal_area_peaks(study, library) if study.block.equal_area else tuning.peaks
    runs = updates = saved = 0
    for jobs in (*tuning.jobs.values(), list(final_jobs(study, peaks))):
        left = unrecorded(jobs, source=source)
        if left:
            tree = plan_trunks(left, library=library)
            runs, updates, saved = runs + len(left), updates + sum(tree.lengths), saved + tree.saved
    return Sharing(runs, updates, saved)
