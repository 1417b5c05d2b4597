"""What a study holds: the recipes of its grid, how their peak rates are chosen, and the seeds they are compared on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from finetune.errors import SettingError
from finetune.keys import IMMATERIAL, is_among
from finetune.recipe.schema import Block, Recipe, Seed

SEED = "training.seed"
PEAK = "optimizer.learning_rate"
MOST_RUNS = 10_000
NOT_STUDIED = (*IMMATERIAL, "plugins", "base", "study")
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _refuse_twins(field: str, values: tuple[Any, ...]) -> None:
    twins = [value for position, value in enumerate(values) if value in values[:position]]
    if twins:
        raise SettingError(field, f"{twins[0]!r} is given twice")


class Tuning(Block):
    """The peak rates tried for every setting: each of `factors` times the recipe's own, on `seeds` of their own."""

    factors: tuple[PositiveFloat, ...]
    seeds: tuple[Seed, ...]

    @field_validator("factors", "seeds")
    @classmethod
    def _several(cls, values: tuple[Any, ...], info: Any) -> tuple[Any, ...]:
        if len(values) < (2 if info.field_name == "factors" else 1):
            raise SettingError(info.field_name, "names too few: 2 factors and 1 seed are the least")
        _refuse_twins(info.field_name, values)
        return values


class StudySettings(Block):
    """The `study:` block.

    `grid`: dotted key of the recipe ▶ the values it takes; runs are all combinations. `tuning`: how the peak rate is
    chosen, null for the recipe's. `equal_area`: gives every schedule the peak at which its rates add up to the same sum
    as those of the grid's first. `reference`, `equivalence`, `target`: see `StudyPart`. `keep_models`: whether the
    models of recorded runs stay on disk.
    """

    grid: dict[str, tuple[Any, ...]]
    tuning: Tuning | None = None
    equal_area: bool = False
    reference: str | None = None
    equivalence: PositiveFloat | None = None
    target: PositiveFloat | None = None
    keep_models: bool = False

    @field_validator("grid")
    @classmethod
    def _no_empty_grid(cls, grid: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        if not grid:
            raise SettingError("grid", "is empty: give the keys to vary, such as schedule: [cosine, linear]")
        for key, values in grid.items():
            if not values:
                raise SettingError("grid", f"{key} has no value: give one or more")
            if is_among(key, NOT_STUDIED):
                raise SettingError("grid", f"{key} can't be varied; runs that differ in it alone are the same run")
            _refuse_twins("grid", values)
        return grid

    @model_validator(mode="after")
    def _consistent(self) -> StudySettings:
        if self.tuning and PEAK in self.grid:
            raise SettingError("tuning", f"chooses {PEAK}, which the grid gives too; keep one of them")
        if self.equal_area and (self.tuning or PEAK in self.grid):
            raise SettingError("equal_area", f"sets {PEAK}, as tuning or the grid does too; keep one of them")
        shared = [seed for seed in self.tuning.seeds if seed in self.grid.get(SEED, ())] if self.tuning else []
        if shared:
            raise SettingError(
                "tuning.seeds",
                f"{', '.join(map(str, sorted(shared)))} are seeds of the comparison too; rates chosen on them would "
                "look better than they are, so choose others",
            )
        return self


class StudyBlock(Block):
    """What a recipe holds beyond a Recipe."""

    study: StudySettings


@dataclass(frozen=True)
class Setting:
    """One cell of the grid, seeds apart: the value of each studied key, and the recipe that they make."""

    values: Mapping[str, Any]
    recipe: Recipe


@dataclass(frozen=True)
class Study:
    """Settings, and the seeds on which each of them is run. Made by `load_study`."""

    name: str
    block: StudySettings
    settings: tuple[Setting, ...]
    seeds: tuple[int, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """The dotted keys that are studied, in the order of the grid."""
        return tuple(self.block.grid)

    @property
    def tuned(self) -> tuple[str, ...]:
        """The keys that are chosen for each setting."""
        return (PEAK,) if self.block.tuning or self.block.equal_area else ()

    @property
    def count(self) -> int:
        """How many runs there are, those that choose peak rates included."""
        tuning = self.block.tuning
        tries = len(tuning.factors) * len(tuning.seeds) if tuning else 0
        return len(self.settings) * (len(self.seeds) + tries)


def with_seed(recipe: Recipe, seed: int) -> Recipe:
    """Returns `recipe` with another seed."""
    return recipe.model_copy(update={"training": recipe.training.model_copy(update={"seed": seed})})


def with_peak(recipe: Recipe, peak: float) -> Recipe:
    """Returns `recipe` with another peak rate; groups with a peak of their own keep its ratio to the recipe's."""
    ratio = peak / recipe.optimizer.learning_rate
    groups = {
        name: group.model_copy(
            update={"learning_rate": None if group.learning_rate is None else group.learning_rate * ratio}
        )
        for name, group in recipe.groups.items()
    }
    return recipe.model_copy(
        update={"optimizer": dataclasses.replace(recipe.optimizer, learning_rate=peak), "groups": groups}
    )


def for_tuning(recipe: Recipe) -> Recipe:
    """Returns `recipe` without its test split, recorded in the folder "tuning" among the study's runs."""
    places = "files" if hasattr(recipe.data, "files") else "splits"
    splits = {split: place for split, place in getattr(recipe.data, places).items() if split != "test"}
    examples = {split: count for split, count in recipe.data.examples.items() if split != "test"}
    return recipe.model_copy(
        update={
            "data": recipe.data.model_copy(update={places: splits, "examples": examples}),
            "output": f"{recipe.output}/{recipe.name}",
            "name": "tuning",
        }
    )
