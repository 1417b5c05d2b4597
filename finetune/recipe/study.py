"""What a study holds: the recipes of its grid, how their peak rates are chosen, and the seeds they are compared on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from finetune.errors import SettingError
from finetune.keys import IMMATERIAL, is_among
from finetune.recipe.rungs import FINALISTS, Rung, lay_out_rungs, problems_on, rescaled
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
    """The peak rates tried for every setting: each of `factors` times the recipe's own, on `seeds` of their own.

    `halving`: η of a successive halving, null for none: only the best 1/η of a setting's peaks, at each rung, go on to
    runs that are η times as long.
    """

    factors: tuple[PositiveFloat, ...]
    seeds: tuple[Seed, ...]
    halving: Annotated[int, Field(ge=2, lt=2**31)] | None = None

    @field_validator("factors", "seeds")
    @classmethod
    def _several(cls, values: tuple[Any, ...], info: Any) -> tuple[Any, ...]:
        if len(values) < (2 if info.field_name == "factors" else 1):
            raise SettingError(info.field_name, "names too few: 2 factors and 1 seed are the least")
        _refuse_twins(info.field_name, values)
        return values

    @model_validator(mode="after")
    def _saves(self) -> Tuning:
        if self.halving and sum(rung.peaks * rung.share for rung in self.rungs) >= len(self.factors):
            raise SettingError(
                "halving",
                f"{self.halving} saves nothing on {len(self.factors)} factors, of which {FINALISTS} at least are run "
                "in full: give more factors, a greater halving, or leave it out",
            )
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_left_out(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves `halving` out where there is none: a study is known by this, and may be older than the key."""
        plain: dict[str, Any] = serialize(self)
        return {key: value for key, value in plain.items() if key != "halving" or value is not None}

    @property
    def rungs(self) -> tuple[Rung, ...]:
        """The rungs, from the shortest to that of full duration; that one alone without halving."""
        return lay_out_rungs(len(self.factors), self.halving)

    @property
    def runs(self) -> int:
        """How many runs choose the peak of one setting."""
        return len(self.seeds) * sum(rung.peaks for rung in self.rungs)


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
class Share:
    """A part of a study's runs, for one of several commands that make them side by side: `number` of `of`, from 1."""

    number: int = 1
    of: int = 1

    def has(self, place: int) -> bool:
        """Whether what is at this place, from 0, is in this share."""
        return place % self.of == self.number - 1

    @property
    def is_whole(self) -> bool:
        """Whether there is no other."""
        return self.of == 1


@dataclass(frozen=True)
class Study:
    """Settings, and the seeds on which each of them is run; made by `load_study`. `share`: of which runs are made."""

    name: str
    block: StudySettings
    settings: tuple[Setting, ...]
    seeds: tuple[int, ...]
    share: Share = Share()

    @property
    def keys(self) -> tuple[str, ...]:
        """The dotted keys that are studied, in the order of the grid."""
        return tuple(self.block.grid)

    @property
    def tuned(self) -> tuple[str, ...]:
        """The keys that are chosen for each setting."""
        return (PEAK,) if self.block.tuning or self.block.equal_area else ()

    @property
    def rungs(self) -> tuple[Rung, ...]:
        """The rungs on which peak rates are tried, the last of full duration; none where they aren't chosen by runs."""
        return self.block.tuning.rungs if self.block.tuning else ()

    def makes(self, setting: int, seed: int) -> bool:
        """Whether the share has the run of a setting with a seed, both by their places; of tuning, all on one setting.

        The runs that choose a peak come before those that take it, so that a share has all of a setting.
        """
        return self.share.has(setting if self.block.tuning else seed * len(self.settings) + setting)

    @property
    def count(self) -> int:
        """How many runs there are in the share, those that choose peak rates included."""
        tuning = self.block.tuning.runs if self.block.tuning else 0
        places = [(setting, seed) for setting in range(len(self.settings)) for seed in range(len(self.seeds))]
        return sum(self.makes(*place) for place in places) + tuning * sum(
            self.share.has(setting) for setting in range(len(self.settings))
        )


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


def for_tuning(recipe: Recipe, rung: Rung | None = None) -> Recipe:
    """Returns `recipe` without its test split, recorded in the folder "tuning" among the study's runs.

    With a `rung` that isn't the last it is rescaled to that one's share, and recorded in a folder of that rung within.
    Raises SettingError for what can't be rescaled.
    """
    places = next(each for each in ("files", "folders", "splits") if hasattr(recipe.data, each))
    splits = {split: place for split, place in getattr(recipe.data, places).items() if split != "test"}
    examples = {split: count for split, count in recipe.data.examples.items() if split != "test"}
    folder = f"{recipe.output}/{recipe.name}"
    tuning = recipe.model_copy(
        update={
            "data": recipe.data.model_copy(update={places: splits, "examples": examples}),
            "output": folder,
            "name": "tuning",
        }
    )
    if rung is None or rung.is_last:
        return tuning
    with problems_on(rung):
        shorter = rescaled(tuning, rung.share)
    return shorter.model_copy(update={"output": f"{folder}/tuning", "name": f"rung{rung.number}"})
