"""The rungs of a successive halving in updates: how long each is, and whether it can be made at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from finetune.errors import SettingError
from finetune.recipe import Recipe, Rung, for_tuning, problems_on
from finetune.schedules import Plateau
from finetune.training.layout import Horizon


def lay_out_rungs(
    recipe: Recipe, rungs: Sequence[Rung], *, lay_out: Callable[[Recipe], Horizon | None]
) -> list[Horizon | None]:
    """Returns the horizon of the runs of `recipe` on each of `rungs`, which `lay_out` gives; None where it gives none.

    Raises SettingError where a schedule doesn't fit a rung, where a rung is no shorter than the next, and where a
    plateau, which counts evaluations, can't be evaluated as often in a shorter run.
    """
    horizons = []
    for rung in rungs:
        with problems_on(rung):
            horizons.append(lay_out(for_tuning(recipe, rung)))
    for rung, horizon, longer in zip(rungs, horizons, horizons[1:], strict=False):
        with problems_on(rung):
            if horizon and longer:
                _check_shorter(horizon, longer)
                _check_evaluations(recipe, rung, horizons[-1])
    return horizons


def _check_shorter(horizon: Horizon, longer: Horizon) -> None:
    if horizon.total_steps >= longer.total_steps:
        raise SettingError(
            "training.duration",
            f"in updates, {horizon.total_steps}, it is no shorter than the next rung, {longer.total_steps}: train "
            "longer, or give fewer factors",
        )


def _check_evaluations(recipe: Recipe, rung: Rung, full: Horizon | None) -> None:
    schedules = [recipe.schedule, *map(recipe.schedule_of, recipe.groups)]
    if not any(isinstance(schedule, Plateau) for schedule in schedules):
        return
    if full and full.evaluate_every is not None and full.evaluate_every * rung.share < 1:
        raise SettingError(
            "evaluation.every",
            f"{recipe.evaluation.every} is less than an update there, and a plateau counts evaluations: evaluate less "
            "often",
        )
