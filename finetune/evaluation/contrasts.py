"""The rows of a comparison two by two, paired by seed: how much they differ, and whether by more than luck."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from finetune.evaluation.cautions import FEWEST_SEEDS
from finetune.evaluation.comparison import Comparison
from finetune.evaluation.record import RunRecord
from finetune.evaluation.rows import Row
from finetune.evaluation.runs import RecordedRun
from finetune.evaluation.statistics import (
    Interval,
    bootstrap_interval,
    equivalence_p_value,
    holm,
    mean_interval,
    seeds_needed,
    sign_flip_p_value,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    ExampleScores = dict[Path, "NDArray[np.float32] | None"]

LEVEL = 0.95

Verdict = Literal["different", "equivalent", "different, by less than matters", "undecided", "too few seeds"]


@dataclass(frozen=True)
class Contrast:
    """How the score of the row `first` differs from that of `second`, seed by seed, in one `context`.

    `differences`: first − second of each of `seeds`, from runs that share initial weights and batches. `interval`: of
    their mean, None with fewer than 2; `bootstrap`: over seeds and examples at once, None without predictions.
    `p_value`: of the exact sign-flip test, None with fewer than 5; `adjusted`: by Holm, for the contrasts of the
    context. `equivalence`: the p-value of a difference outside the declared region, adjusted likewise; None without a
    region or with fewer than 5. `seeds_needed`: how many would find a difference of `effect` with power 0.8, None where
    the contrast is decided or 10,000 wouldn't do.
    """

    first: str
    second: str
    context: str
    seeds: tuple[int, ...]
    differences: tuple[float, ...]
    interval: Interval | None
    bootstrap: Interval | None = None
    p_value: float | None = None
    adjusted: float | None = None
    equivalence: float | None = None
    effect: float | None = None
    seeds_needed: int | None = None

    @property
    def differences_mean(self) -> float:
        """The mean of the differences."""
        return statistics.fmean(self.differences)

    @property
    def is_shown(self) -> bool:
        """Whether a difference is shown at 5%, all contrasts of the context taken together."""
        return self.adjusted is not None and self.adjusted <= 1 - LEVEL + 1e-12

    @property
    def is_equivalent(self) -> bool:
        """Whether the difference is shown to be less than the declared one that matters."""
        return self.equivalence is not None and self.equivalence <= 1 - LEVEL + 1e-12

    @property
    def verdict(self) -> Verdict:
        """What is shown, in a word."""
        if self.p_value is None:
            return "too few seeds"
        if self.is_shown:
            return "different, by less than matters" if self.is_equivalent else "different"
        return "equivalent" if self.is_equivalent else "undecided"


def contrasts(
    comparison: Comparison, *, reference: str | None = None, equivalence: float | None = None
) -> list[Contrast]:
    """Returns a contrast for every two rows that have a seed in common and may be set against each other.

    Those of one context may, or where all rows have one schedule, those that differ in one key. With a `reference`, the
    label or the name of a schedule, its rows against each other one, and no others. `equivalence`: the least difference
    that matters, in units of the metric. Raises RecordError where predictions can't be read or contradict a record.
    """
    pairs = [
        _ordered(first, second, reference)
        for first, second in itertools.combinations(comparison.rows, 2)
        if _may_be_set_against(comparison, first, second, reference)
    ]
    scores = _example_scores(comparison, pairs)
    paired = [_contrast(comparison, first, second, scores, equivalence) for first, second in pairs]
    families: dict[str, list[Contrast]] = {}
    for contrast in paired:
        if contrast.seeds:
            families.setdefault(contrast.context, []).append(contrast)
    return [contrast for family in families.values() for contrast in _settled(family, equivalence)]


def is_of(row: Row, reference: str | None) -> bool:
    """Whether the row's schedule is the one called `reference`, by its label or its name."""
    return reference in (row.label, row.records[0].schedule.settings["name"])


def _may_be_set_against(comparison: Comparison, first: Row, second: Row, reference: str | None) -> bool:
    if len({row.label for row in comparison.rows}) == 1:
        differing = [key for key in first.others if first.others[key] != second.others.get(key)]
        return len(differing) == 1
    if first.context != second.context or first.label == second.label:
        return False
    return reference is None or is_of(first, reference) != is_of(second, reference)


def _ordered(first: Row, second: Row, reference: str | None) -> tuple[Row, Row]:
    return (second, first) if reference is not None and is_of(first, reference) else (first, second)


def _contrast(
    comparison: Comparison, first: Row, second: Row, scores: ExampleScores, equivalence: float | None
) -> Contrast:
    pairs = dict(_pairs(first, second))
    split = comparison.split
    differences = tuple(one.record.score(split) - other.record.score(split) for one, other in pairs.values())
    count = len(differences)
    enough = count >= FEWEST_SEEDS
    return Contrast(
        first=first.name,
        second=second.name,
        context=first.context if first.context == second.context else first.label,
        seeds=tuple(pairs),
        differences=differences,
        interval=mean_interval(differences, level=LEVEL) if count > 1 else None,
        bootstrap=_bootstrap(pairs.values(), scores) if count > 1 else None,
        p_value=sign_flip_p_value(differences) if enough else None,
        equivalence=equivalence_p_value(differences, margin=equivalence) if enough and equivalence else None,
    )


def _settled(family: list[Contrast], equivalence: float | None) -> Iterator[Contrast]:
    """Yields the contrasts of one context with their p-values adjusted, and what would settle the undecided ones."""
    tested = [contrast for contrast in family if contrast.p_value is not None]
    adjusted = iter(holm([contrast.p_value for contrast in tested if contrast.p_value is not None]))
    within = iter(holm([contrast.equivalence for contrast in tested if contrast.equivalence is not None]))
    for contrast in family:
        if contrast.p_value is None:
            yield contrast
            continue
        settled = replace(
            contrast,
            adjusted=next(adjusted),
            equivalence=next(within) if contrast.equivalence is not None else None,
        )
        yield _with_seeds_needed(settled, equivalence, len(tested)) if settled.verdict == "undecided" else settled


def _with_seeds_needed(contrast: Contrast, equivalence: float | None, tests: int) -> Contrast:
    effect = equivalence or (abs(contrast.interval.estimate) if contrast.interval else 0.0)
    if not effect:
        return contrast
    needed = seeds_needed(contrast.differences, effect=effect, level=1 - (1 - LEVEL) / tests)
    return replace(contrast, effect=effect, seeds_needed=needed and max(needed, fewest_seeds(tests)))


def fewest_seeds(tests: int) -> int:
    """Returns how many seeds the exact sign-flip test needs to reach 5% for every one of `tests` contrasts."""
    return next(seeds for seeds in itertools.count(2) if 2 ** (1 - seeds) * tests <= 1 - LEVEL)


def _pairs(first: Row, second: Row) -> Iterator[tuple[int, tuple[RecordedRun, RecordedRun]]]:
    others = {run.record.identity.seed: run for run in second.runs if run.record.has_scores}
    for run in first.runs:
        other = others.get(run.record.identity.seed)
        if run.record.has_scores and other is not None and _start(run.record) == _start(other.record):
            yield run.record.identity.seed, (run, other)


def _start(record: RunRecord) -> tuple[str, str]:
    return record.identity.model.initial_weights, record.identity.batches


def _example_scores(comparison: Comparison, pairs: Iterable[tuple[Row, Row]]) -> ExampleScores:
    """Returns what each example scored in each run; None where that isn't known, or the metric isn't their mean."""
    runs = {run.path: run for pair in pairs for row in pair for run in row.runs if run.record.has_scores}
    return {path: run.example_scores(comparison.split) for path, run in runs.items()}


def _bootstrap(pairs: Iterable[tuple[RecordedRun, RecordedRun]], scores: Mapping[Path, object]) -> Interval | None:
    arrays = [(scores.get(one.path), scores.get(other.path)) for one, other in pairs]
    if any(one is None or other is None for one, other in arrays):
        return None
    first, second = zip(*arrays, strict=True)
    return bootstrap_interval(first, second, level=LEVEL)
