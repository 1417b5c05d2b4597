"""What can be said of a run or a study before it begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from finetune.keys import brief
from finetune.recipe import Recipe, Study
from finetune.schedules import Schedule
from finetune.schedules.compose import late
from finetune.training.layers import LayerGroup, layer_groups
from finetune.training.layout import Horizon

if TYPE_CHECKING:
    import numpy.typing as npt

POINTS = 2000
"""The most points of a rate's curve."""

State = Literal["new", "begun", "interrupted", "recorded", "running"]


@dataclass(frozen=True)
class Lengths:
    """The lengths of the examples of a split, pairs taken together: their mean and the longest."""

    mean: float
    longest: int

    @classmethod
    def of(cls, lengths: npt.ArrayLike) -> Lengths:
        """Returns what sums up `lengths`, shape (n,), n at least 1."""
        each = np.asarray(lengths)
        return cls(int(each.sum()) / len(each), int(each.max()))


@dataclass(frozen=True)
class Sizes:
    """The images of fewest and of most pixels in a split, each by its width and its height."""

    smallest: tuple[int, int]
    largest: tuple[int, int]

    @classmethod
    def of(cls, sizes: npt.ArrayLike) -> Sizes:
        """Returns what sums up `sizes`, shape (n, 2), n at least 1."""
        each = np.asarray(sizes)
        pixels = each.prod(axis=1)
        smallest, largest = (tuple(each[place].tolist()) for place in (pixels.argmin(), pixels.argmax()))
        return cls(smallest, largest)


@dataclass(frozen=True)
class Tokens:
    """The lengths in tokens of `counted` examples spread over a split, before any is cut, and how many will be."""

    lengths: Lengths
    counted: int
    cut: int


@dataclass(frozen=True)
class SplitOutlook:
    """One split. `used`: how many of its `examples` a run takes; `classes`: how many there are of each class, if any.

    `characters`, `words`: None where examples aren't texts; `tokens`: also where the model is in no folder with a
    tokenizer.json; `sizes`: of images.
    """

    examples: int
    used: int
    classes: Mapping[str, int]
    characters: Lengths | None = None
    words: Lengths | None = None
    tokens: Tokens | None = None
    sizes: Sizes | None = None


@dataclass(frozen=True)
class RunState:
    """What there is in a run's directory. `step`: of the checkpoint to go on from; `changed`: the splits that are no
    longer what the run there was made on."""

    state: State
    step: int | None = None
    changed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outlook:
    """One run. `horizon` is None where a duration counts tokens, and there is no tokenizer.json to count them by, or
    where what is trained on isn't what is read, example by example.

    `blocks`: of the model, None where the recipe's layers don't go by them, or the model is in no folder.
    """

    recipe: Recipe
    run: Path
    found: RunState
    splits: Mapping[str, SplitOutlook]
    cautions: Sequence[str]
    horizon: Horizon | None
    blocks: int | None = None

    @cached_property
    def layers(self) -> list[LayerGroup]:
        """The groups of parameters that the recipe's `layers` give rates of their own, as far as they are known."""
        return layer_groups(self.recipe, self.horizon.run, blocks=self.blocks) if self.horizon else []

    @cached_property
    def evaluations(self) -> list[int]:
        """The updates after which the model is evaluated."""
        if self.horizon is None:
            return []
        return [*_multiples(self.horizon.evaluate_every, self.horizon.total_steps), self.horizon.total_steps]

    @cached_property
    def checkpoints(self) -> list[int]:
        """The updates after which a checkpoint is written."""
        return [] if self.horizon is None else _multiples(self.horizon.save_every, self.horizon.total_steps)

    def rates(self) -> tuple[list[int], dict[str, list[float]]]:
        """Returns updates spread over the run, counted from 0, and the rate at each: by the name of the schedule, and
        by those of the groups, and of the layers, that have their own. Nothing where the run's length isn't known."""
        if self.horizon is None:
            return [], {}
        last = self.horizon.total_steps - 1
        intervals = max(1, min(last, POINTS))
        steps = list(dict.fromkeys(last * number // intervals for number in range(intervals + 1)))
        peak = self.recipe.optimizer.learning_rate
        followed = {self.recipe.schedule.name: (self.recipe.schedule, peak)}
        for name, group in self.recipe.groups.items():
            followed[f"group {name}"] = (self.recipe.schedule_of(name), group.learning_rate or peak)
        rates = {}
        for name, (schedule, own) in followed.items():
            factor = schedule.over(self.horizon.run, peak=own)
            rates[name] = [own * float(factor(step)) for step in steps]
        for layer in self.layers:
            factor = late(self.recipe.schedule.over(self.horizon.run, peak=layer.peak), layer.start)
            rates[layer.name] = [layer.peak * float(factor(step)) for step in steps]
        return steps, rates

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values."""
        steps, rates = self.rates()
        return {
            "name": self.recipe.name,
            "recipe": self.recipe.to_dict(),
            "data": {split: asdict(outlook) for split, outlook in self.splits.items()},
            "cautions": list(self.cautions),
            "updates_per_epoch": self.horizon and self.horizon.updates_per_epoch,
            "total_steps": self.horizon and self.horizon.total_steps,
            "evaluations": self.evaluations,
            "checkpoints": self.checkpoints,
            "rates": {"steps": steps, **rates},
            "run": {"directory": str(self.run), **asdict(self.found)},
        }


@dataclass(frozen=True)
class StudyOutlook:
    """A study: the outlook of each of its settings, with the first of its seeds. `recorded`: runs in `directory`.

    `rungs`: of each setting, the horizon of each rung on which peak rates are chosen.
    """

    study: Study
    settings: tuple[Outlook, ...]
    directory: Path
    recorded: int
    rungs: tuple[tuple[Horizon | None, ...], ...]

    @property
    def updates(self) -> int | None:
        """The updates of all runs together; None where a setting's aren't known."""
        tuning, seeds = self.study.block.tuning, len(self.study.seeds)
        tries = [rung.peaks * len(tuning.seeds) for rung in tuning.rungs] if tuning else []
        runs = [
            (horizon, count)
            for outlook, rungs in zip(self.settings, self.rungs, strict=True)
            for horizon, count in zip((outlook.horizon, *rungs), (seeds, *tries), strict=True)
        ]
        lengths = [horizon.total_steps * count for horizon, count in runs if horizon]
        return sum(lengths) if len(lengths) == len(runs) else None

    @property
    def cautions(self) -> list[str]:
        """What is to be known of any setting's data, each once."""
        return list(dict.fromkeys(caution for outlook in self.settings for caution in outlook.cautions))

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values."""
        settings = zip(self.study.settings, self.settings, strict=True)
        return {
            "name": self.study.name,
            "study": self.study.block.model_dump(mode="json"),
            "seeds": list(self.study.seeds),
            "runs": self.study.count,
            "recorded": self.recorded,
            "updates": self.updates,
            "directory": str(self.directory),
            "cautions": self.cautions,
            "settings": [{"values": dict(setting.values), **outlook.to_dict()} for setting, outlook in settings],
        }


def in_words(schedule: Schedule) -> str:
    """Returns the name and the settings of a schedule."""
    settings = schedule.to_dict()
    return ", ".join([settings.pop("name"), *(f"{key} {brief(value)}" for key, value in settings.items())])


def _multiples(every: int | None, total_steps: int) -> list[int]:
    return [] if every is None else list(range(every, total_steps, every))
