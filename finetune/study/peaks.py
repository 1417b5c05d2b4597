"""The peak rate of each setting: chosen on validation with the same budget for all, or of equal area."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetune.recipe import Study
from finetune.study.jobs import Done, describe
from finetune.training import mean_factor
from finetune.training.material import Library

RULE = (
    "of the tried peak rates, the one with the highest mean validation score over the tuning seeds; one with which a "
    "run diverged or failed comes after all others; of equals, the lowest"
)


@dataclass(frozen=True)
class Choice:
    """What was tried for one setting: peak ▶ scores by seed (None: diverged or failed), and the peak chosen."""

    setting: str
    tried: Mapping[float, Mapping[int, float | None]]
    peak: float
    total_steps: int | None

    @property
    def is_at_edge(self) -> bool:
        """Whether a better peak may lie beyond those tried."""
        return self.peak in (min(self.tried), max(self.tried))

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for the study's file."""
        tried = [
            {"peak": peak, "scores": {str(s): v for s, v in scores.items()}} for peak, scores in self.tried.items()
        ]
        return {
            "setting": self.setting,
            "peak": self.peak,
            "total_steps": self.total_steps,
            "at_edge": self.is_at_edge,
            "tried": tried,
        }


def choose(study: Study, tuned: Sequence[Done]) -> dict[int, Choice]:
    """Returns the choice for each setting, by its number, from the tuning runs."""
    return {
        number: _choose(study, number, [done for done in tuned if done.job.setting == number])
        for number in sorted({done.job.setting for done in tuned})
    }


def _choose(study: Study, number: int, tuned: Sequence[Done]) -> Choice:
    tried: dict[float, dict[int, float | None]] = {}
    for done in sorted(tuned, key=lambda done: done.job.recipe.optimizer.learning_rate):
        recipe = done.job.recipe
        tried.setdefault(recipe.optimizer.learning_rate, {})[recipe.training.seed] = done.score
    peak = max(tried, key=lambda peak: (_rank(tried[peak]), -peak))
    steps = next((done.total_steps for done in tuned if done.total_steps), None)
    return Choice(describe(study.settings[number]), tried, peak, steps)


def _rank(scores: Mapping[int, float | None]) -> tuple[bool, float]:
    there = [score for score in scores.values() if score is not None]
    return len(there) == len(scores), statistics.fmean(there) if there else 0.0


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
