"""Successive halving of peak rates: its rungs, and the recipe of a shorter rung, with every horizon rescaled.

Jamieson and Talwalkar 2016 (arXiv 1502.07943); Li et al. 2018 (arXiv 1603.06560).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction

from finetune.errors import SettingError, settings_within
from finetune.recipe.schema import Recipe
from finetune.schedules import schedule_for
from finetune.schedules.durations import rescale_duration

HALVING = "study.tuning.halving"
FINALISTS = 2
"""How many peak rates are run in full at the least, so that the choice is among runs of full length."""


@dataclass(frozen=True)
class Rung:
    """Rung `number` of `of`: so many `peaks` of each setting are run for a `share` of the duration."""

    number: int
    of: int
    peaks: int
    share: Fraction

    def __str__(self) -> str:
        return f"rung {self.number} of {self.of}"

    @property
    def is_last(self) -> bool:
        """Whether its runs are of full duration, and the peak is chosen by them."""
        return self.number == self.of


def lay_out_rungs(peaks: int, reduction: int | None) -> tuple[Rung, ...]:
    """Returns the rungs by which `peaks` peak rates are reduced: one, of full duration, where `reduction` is None.

    With η = `reduction`, rung i + 1 has the best 1/η of the peaks of rung i, rounded up, for η times the duration. The
    last, of full duration, is the first with no more than FINALISTS; no rung but the first has fewer.
    """
    counts = [peaks]
    while reduction is not None and counts[-1] > FINALISTS:
        counts.append(max(FINALISTS, math.ceil(counts[-1] / reduction)))
    return tuple(
        Rung(number, len(counts), count, Fraction(1, (reduction or 1) ** (len(counts) - number)))
        for number, count in enumerate(counts, start=1)
    )


@contextmanager
def problems_on(rung: Rung) -> Iterator[None]:
    """Says of a SettingError on its way out that it is one of a shorter rung, and what to do about it."""
    try:
        yield
    except SettingError as error:
        if rung.is_last:
            raise
        raise SettingError(
            HALVING,
            f"{rung}, for {rung.share} of the duration, can't be made: {'; '.join(map(str, error.all))}; "
            "or leave halving out",
        ) from error


def rescaled(recipe: Recipe, by: Fraction) -> Recipe:
    """Returns `recipe` for a run `by` times as long: its duration, its schedules, how often it is evaluated
    and its layers are unfrozen.

    What plateaus count, evaluations, so stays in proportion too. Raises SettingError for what would be shorter than one
    update, or can't be told from what isn't a duration.
    """
    with settings_within("schedule"):
        schedule = recipe.schedule.rescaled(by)
    groups = {}
    for name, group in recipe.groups.items():
        with settings_within(f"groups.{name}.schedule"):
            own = recipe.schedule_of(name).rescaled(by)
        if group.schedule is not None and schedule_for(schedule, group.schedule) != own:
            group = group.model_copy(update={"schedule": own.to_dict()})
        groups[name] = group
    duration = rescale_duration(recipe.training.duration, by, field="training.duration")
    every = recipe.evaluation.every
    if every is not None:
        every = rescale_duration(every, by, field="evaluation.every")
    return recipe.model_copy(
        update={
            "schedule": schedule,
            "groups": groups,
            "layers": recipe.layers and recipe.layers.rescaled(by),
            "training": recipe.training.model_copy(update={"duration": duration}),
            "evaluation": recipe.evaluation.model_copy(update={"every": every}),
        }
    )
