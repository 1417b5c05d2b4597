"""The runs of a study in plain values: what tells two of them apart, update by update."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from finetune.evaluation.record import RECORD
from finetune.recipe import Recipe
from finetune.study.jobs import Job
from finetune.study.trunks import LEAST_UPDATES, Course, Tree, Values, grow
from finetune.training import run_directory
from finetune.training.adapters import LORA_B, b_peak
from finetune.training.layers import unfreezing_interval
from finetune.training.layout import Horizon, layout_of
from finetune.training.material import Library
from finetune.training.plan import lay_out_updates

LAID_OUT = ("schedule", "training.duration", "evaluation.every", "layers.unfreeze.every")
"""The blocks and keys of a recipe that count in updates, not as written; those of a parameter group do too."""


def unrecorded(jobs: Iterable[Job], *, source: Path) -> list[Job]:
    """Returns those of `jobs`, of a study read from the file `source`, that have no record yet."""
    return [job for job in jobs if not (run_directory(job.recipe, source=source) / RECORD).exists()]


def plan_trunks(jobs: Iterable[Job], *, library: Library, least_updates: int = LEAST_UPDATES) -> Tree:
    """Returns the tree of `jobs`, all of them to be made; raises FinetuneError where updates can't be laid out."""
    return grow(courses_of(jobs, library=library), least_updates=least_updates)


def courses_of(jobs: Iterable[Job], *, library: Library) -> list[Course]:
    """Returns the run of each job in plain values; raises FinetuneError where its updates can't be laid out."""
    reckoning = _Reckoning()
    courses = []
    for job in jobs:
        recipe = job.recipe
        _, _, horizon = lay_out_updates(recipe, layout=layout_of(recipe), library=library)
        momenta = reckoning.momenta(recipe, horizon)
        values = (
            *reckoning.rates(recipe, horizon),
            *reckoning.factors(recipe, horizon),
            *momenta.values(),
            reckoning.rules(recipe, horizon),
        )
        same = [_alike(recipe), horizon.evaluate_every, [*momenta], *_alike_in_layers(recipe, horizon)]
        kind = json.dumps(same, sort_keys=True)
        courses.append(Course(job.label.removesuffix(f", seed {recipe.training.seed}"), kind, values))
    return courses


def _alike(recipe: Recipe) -> dict[str, Any]:
    """Returns what two runs of a kind have the same of: all of a recipe but what counts in updates."""
    return {key: value for key, value in recipe.flatten().items() if not _is_laid_out(key)}


def _alike_in_layers(recipe: Recipe, horizon: Horizon) -> list[Any]:
    """Returns what two runs of a kind have the same of beside that, where layers have rates of their own.

    How many there are only the model knows; but each has the recipe's own factor, times a peak that is a share of the
    recipe's, unless the factor depends on the peak, as with a floor that is an absolute rate. Such schedules share
    nothing with others.
    """
    layers, peak = recipe.layers, recipe.optimizer.learning_rate
    if layers is None or not layers.sets_rates:
        return []
    depends = _content(recipe.schedule.over(horizon.run, peak=peak)) != _content(
        recipe.schedule.over(horizon.run, peak=2 * peak)
    )
    return [unfreezing_interval(layers, horizon.run), recipe.schedule.to_dict() if depends else None]


def _is_laid_out(key: str) -> bool:
    block, _, rest = key.partition(".")
    within = rest.partition(".")[2] if block == "groups" else key
    return any(f"{within}.".startswith(f"{each}.") for each in LAID_OUT)


class _Reckoning:
    """Works out the values of runs, those of each factor once."""

    def __init__(self) -> None:
        self._known: dict[Any, Values] = {}
        self._rules: dict[str, int] = {}

    def rates(self, recipe: Recipe, horizon: Horizon) -> list[Values]:
        """Returns the rates of each parameter group, as `ScheduledLR` sets them while no evaluation has moved them."""
        return [
            peak * self._values(schedule.over(horizon.run, peak=peak), horizon.total_steps)
            for schedule, peak in _groups(recipe).values()
        ]

    def factors(self, recipe: Recipe, horizon: Horizon) -> list[Values]:
        """Returns the factor that layers with peaks of their own follow, if there are any."""
        if recipe.layers is None or not recipe.layers.sets_rates:
            return []
        factor = recipe.schedule.over(horizon.run, peak=recipe.optimizer.learning_rate)
        return [self._values(factor, horizon.total_steps)]

    def momenta(self, recipe: Recipe, horizon: Horizon) -> dict[str, Values]:
        """Returns the momentum of each parameter group whose schedule moves it."""
        moved = {name: schedule.resolve_momentum(horizon.run) for name, (schedule, _) in _groups(recipe).items()}
        return {
            name: self._values(momentum, horizon.total_steps)
            for name, momentum in moved.items()
            if momentum is not None
        }

    def _values(self, factor: Callable[[int], float], updates: int) -> Values:
        """Returns `factor` at each update, one by one as a run asks for it: of an array a last bit may differ."""
        key = (_content(factor), updates)
        if key not in self._known:
            self._known[key] = np.fromiter(map(factor, range(updates)), np.float64, updates)
        return self._known[key]

    def rules(self, recipe: Recipe, horizon: Horizon) -> Values:
        """Returns by which rule evaluations may have moved a rate: 0 for none, else a number for each set of plateaus.

        Runs under one rule see the same evaluations, and act alike. One that goes on from a run under another must be
        there before the first evaluation that it has to be told of, so its rule holds from the update before that on.
        """
        plateaus = {name: schedule.to_dict() for name, (schedule, _) in _groups(recipe).items() if _heeds(schedule)}
        rules = np.zeros(horizon.total_steps)
        if plateaus and horizon.evaluate_every is not None:
            text = json.dumps(plateaus, sort_keys=True)
            rules[horizon.evaluate_every - 1 :] = self._rules.setdefault(text, len(self._rules) + 1)
        return rules


def _groups(recipe: Recipe) -> dict[str, tuple[Any, float]]:
    """Returns each parameter group's schedule and peak rate, the recipe's own under ""."""
    peak = recipe.optimizer.learning_rate
    own = {name: (recipe.schedule_of(name), group.learning_rate or peak) for name, group in recipe.groups.items()}
    groups = {"": (recipe.schedule, peak), **own}
    if recipe.adapter is None or recipe.adapter.b_rate is None:
        return groups
    ratio = recipe.adapter.b_rate
    return groups | {f"{name}.{LORA_B}": (schedule, b_peak(own, ratio)) for name, (schedule, own) in groups.items()}


def _heeds(schedule: Any) -> bool:
    """Whether the schedule is told of evaluations, as a plateau is, which has a factor after any falls."""
    return hasattr(schedule, "after")


def _content(curve: Any) -> Any:
    """Returns what a curve is made of, to tell equal ones, also where partial functions are among it."""
    if isinstance(curve, partial):
        return curve.func, _content((curve.args, *sorted(curve.keywords.items())))
    if isinstance(curve, tuple):
        return tuple(map(_content, curve))
    if is_dataclass(curve):
        return type(curve), *(_content(getattr(curve, field.name)) for field in fields(curve))
    return curve
