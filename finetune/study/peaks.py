"""The peak rate of each setting: chosen on validation with the same budget for all, or of equal area."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetune.evaluation.direction import MORE_IS_BETTER, Direction
from finetune.recipe import Rung, Study
from finetune.study.jobs import Done, describe
from finetune.training import mean_factor
from finetune.training.material import Library

RULE = (
    "of the tried peak rates, the one with the {superlative} mean validation score over the tuning seeds; one with "
    "which a run diverged or failed comes after all others; of equals, the lowest"
)
HALVING_RULE = (
    "successive halving: first every peak rate for a share of the duration, then, by the same rule within a setting, "
    "the best 1/{reduction} of them, rounded up, for {reduction} times the duration, until {finalists} are left, which "
    "are run in full and chosen from: "
)

Scores = Mapping[int, float | None]
"""Score by seed; None: diverged or failed."""


@dataclass(frozen=True)
class Tried:
    """The peak rates that one setting was run with on a rung, in ascending order, and the updates of such a run.

    `direction`: that of the metric that the scores are of.
    """

    rung: Rung
    scores: Mapping[float, Scores]
    total_steps: int | None
    direction: Direction = MORE_IS_BETTER

    @property
    def ranked(self) -> list[float]:
        """The peaks, the best first."""
        return sorted(self.scores, key=lambda peak: (_rank(self.scores[peak], self.direction), -peak), reverse=True)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for the study's file."""
        return {"share": str(self.rung.share), "total_steps": self.total_steps, "tried": _plain(self.scores)}


def _plain(scores: Mapping[float, Scores]) -> list[dict[str, Any]]:
    return [{"peak": peak, "scores": {str(s): v for s, v in each.items()}} for peak, each in scores.items()]


def _rank(scores: Scores, direction: Direction) -> tuple[bool, float]:
    there = [score for score in scores.values() if score is not None]
    return len(there) == len(scores), direction.merit(statistics.fmean(there)) if there else -math.inf


@dataclass(frozen=True)
class Choice:
    """What was tried for one setting, rung by rung, and the peak chosen by the last, of full duration."""

    setting: str
    rungs: tuple[Tried, ...]

    @property
    def tried(self) -> Mapping[float, Scores]:
        """The scores of the peaks that were run in full."""
        return self.rungs[-1].scores

    @property
    def peak(self) -> float:
        """The peak chosen."""
        return self.rungs[-1].ranked[0]

    @property
    def direction(self) -> Direction:
        """That of the metric that chose."""
        return self.rungs[-1].direction

    @property
    def is_at_edge(self) -> bool:
        """Whether a better peak may lie beyond those tried."""
        tried = self.rungs[0].scores
        return self.peak in (min(tried), max(tried))

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for the study's file."""
        shorter = [tried.to_dict() for tried in self.rungs[:-1]]
        return {
            "setting": self.setting,
            "peak": self.peak,
            "total_steps": self.rungs[-1].total_steps,
            "at_edge": self.is_at_edge,
            "tried": _plain(self.tried),
            **({"shorter": shorter} if shorter else {}),
        }


def rule(study: Study, direction: Direction) -> str:
    """Returns how the study chooses peak rates by a metric of that direction, in words."""
    tuning = study.block.tuning
    among_those_in_full = RULE.format(superlative=direction.superlative)
    if tuning is None or tuning.halving is None:
        return among_those_in_full
    return HALVING_RULE.format(reduction=tuning.halving, finalists=tuning.rungs[-1].peaks) + among_those_in_full


def left_for(study: Study, rung: Rung, tuned: Iterable[Done]) -> dict[int, list[float]]:
    """Returns the peaks of each setting that go on to `rung`: the best by `tuned`, the runs on the rung before.

    A setting's peaks are ranked among themselves alone. One without such runs, as all before the first, isn't there.
    """
    before = study.rungs[: rung.number - 1][-1:]
    return {number: tried.ranked[: rung.peaks] for each in before for number, tried in _tried_on(each, tuned).items()}


def choose(study: Study, tuned: Sequence[Done]) -> dict[int, Choice]:
    """Returns the choice for each setting, by its number, from the tuning runs."""
    rungs = [_tried_on(rung, tuned) for rung in study.rungs]
    return {
        number: Choice(describe(study.settings[number]), tuple(tried[number] for tried in rungs))
        for number in sorted({done.job.setting for done in tuned})
    }


def _tried_on(rung: Rung, tuned: Iterable[Done]) -> dict[int, Tried]:
    found: dict[int, list[Done]] = {}
    for done in tuned:
        part = done.job.part.rung
        if rung.number == (part.number if part else 1):
            found.setdefault(done.job.setting, []).append(done)
    return {number: _tried(rung, each) for number, each in found.items()}


def _tried(rung: Rung, done: Sequence[Done]) -> Tried:
    scores: dict[float, dict[int, float | None]] = {}
    for each in sorted(done, key=lambda each: each.job.recipe.optimizer.learning_rate):
        recipe = each.job.recipe
        scores.setdefault(recipe.optimizer.learning_rate, {})[recipe.training.seed] = each.score
    direction = next((each.direction for each in done if each.score is not None), MORE_IS_BETTER)
    return Tried(rung, scores, next((each.total_steps for each in done if each.total_steps), None), direction)


def equal_area_peaks(study: Study, library: Library) -> dict[int, float]:
    """Returns the peak of each setting at which the rates add up to what those of the first of its kind do.

    Settings that differ in their schedule alone are of a kind; the first keeps the recipe's peak.
    """
    areas: dict[str, float] = {}
    peaks = {}
    for number, setting in enumerate(study.settings):
        others = {key: value for key, value in setting.values.items() if key.partition(".")[0] != "schedule"}
        own = setting.recipe.optimizer.learning_rate
        mean = mean_factor(setting.recipe, library)
        peaks[number] = areas.setdefault(repr(others), own * mean) / mean
    return peaks
