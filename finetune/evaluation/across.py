"""Schedules over several contexts at once: other optimizers, other data, other recipes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from finetune.evaluation.claims import Measured, of
from finetune.evaluation.comparison import Comparison
from finetune.evaluation.contrasts import LEVEL
from finetune.evaluation.direction import Direction
from finetune.evaluation.forms import form_of
from finetune.evaluation.rows import Row
from finetune.evaluation.statistics import Interval, interquartile_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Scores = NDArray[np.float64]

DRAWS = 2000
PLURALS = {"optimizer": "optimizers", "data": "data sets", "model": "models", "task": "tasks"}


@dataclass(frozen=True)
class AcrossContexts:
    """A schedule over `contexts` contexts of `runs` runs in all.

    `mean_rank`: among the schedules by mean score, 1 the best, ties shared; `interquartile_mean`: of all its scores
    (Agarwal et al. 2021). Their intervals are percentiles over seeds drawn anew within each context. `spreads`: what
    the contexts vary ▶ the distance of the best score over it and the worst, seed by seed. `direction`: that of the
    metric.
    """

    schedule: str
    direction: Direction
    contexts: int
    runs: int
    mean_rank: Interval
    interquartile_mean: Interval
    spreads: Mapping[str, Measured]

    @property
    def form(self) -> str:
        """How the scores are written, as a specification of `format`."""
        return form_of(self.interquartile_mean.estimate)


def across_contexts(comparisons: Sequence[Comparison]) -> list[AcrossContexts]:
    """Returns the schedules that all contexts of all `comparisons` have in common, by their mean rank.

    Only seeds that every schedule finished in a context count there. None where there is but one context, one schedule
    or more than one metric.
    """
    if len({(comparison.metric, comparison.direction) for comparison in comparisons}) != 1:
        return []
    contexts = [(comparison, rows) for comparison in comparisons for rows in comparison.contexts.values()]
    named = [{row.label: row for row in rows} for _, rows in contexts]
    labels = [label for label in named[0] if all(label in rows for rows in named)]
    if len(contexts) < 2 or len(labels) < 2:
        return []
    scores = [
        _paired_scores(comparison, [rows[label] for label in labels])
        for (comparison, _), rows in zip(contexts, named, strict=True)
    ]
    if any(len(each) == 0 for each in scores):
        return []
    direction = comparisons[0].direction
    ranks, middles = _intervals(scores, direction)
    found = [
        AcrossContexts(
            schedule=label,
            direction=direction,
            contexts=len(scores),
            runs=sum(len(each) for each in scores),
            mean_rank=rank,
            interquartile_mean=middle,
            spreads=_spreads(comparisons, label),
        )
        for label, rank, middle in zip(labels, ranks, middles, strict=True)
    ]
    return sorted(found, key=lambda each: each.mean_rank.estimate)


def _paired_scores(comparison: Comparison, rows: Sequence[Row]) -> Scores:
    """Returns scores of the shape (seeds, rows), of the seeds that all rows finished."""
    by_seed = [_by_seed(row, comparison) for row in rows]
    seeds = sorted(set.intersection(*(set(each) for each in by_seed)))
    return np.array([[each[seed] for each in by_seed] for seed in seeds])


def _by_seed(row: Row, comparison: Comparison) -> dict[int, float]:
    return dict(
        zip(
            [record.identity.seed for record in row.finished],
            row.scores(comparison.split),
            strict=True,
        )
    )


def _intervals(scores: Sequence[Scores], direction: Direction) -> tuple[list[Interval], list[Interval]]:
    generator = np.random.default_rng(0)
    drawn = [
        _figures([each[generator.integers(0, len(each), len(each))] for each in scores], direction)
        for _ in range(DRAWS)
    ]
    low, high = np.quantile(np.array(drawn), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    found = _figures(scores, direction)
    ranks, middles = (
        [
            Interval(float(estimate), float(least), float(most), LEVEL)
            for estimate, least, most in zip(found[kind], low[kind], high[kind], strict=True)
        ]
        for kind in (0, 1)
    )
    return ranks, middles


def _figures(scores: Sequence[Scores], direction: Direction) -> Scores:
    """Returns the mean rank and the interquartile mean of each schedule, of the shape (2, schedules)."""
    merits = np.array([direction.merit(1) * each.mean(axis=0).round(12) for each in scores])
    better = (merits[:, None, :] > merits[:, :, None]).sum(axis=2)
    equal = (merits[:, None, :] == merits[:, :, None]).sum(axis=2)
    ranks = (better + (equal + 1) / 2).mean(axis=0)
    return np.array([ranks, interquartile_mean(np.concatenate(scores))])


def _spreads(comparisons: Sequence[Comparison], label: str) -> dict[str, Measured]:
    """Returns the spread over each part of the recipe that the contexts of a comparison vary, the others held fixed."""
    gathered: dict[str, list[float]] = {}
    for comparison in comparisons:
        rows = [row for row in comparison.rows if row.label == label]
        for part in sorted({key.partition(".")[0] for row in rows for key in row.telling}):
            gathered.setdefault(PLURALS.get(part, part), []).extend(_ranges(comparison, rows, part))
    return {part: of(ranges) for part, ranges in gathered.items() if ranges}


def _ranges(comparison: Comparison, rows: Sequence[Row], part: str) -> list[float]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        rest = {key: value for key, value in row.telling.items() if key.partition(".")[0] != part}
        groups.setdefault(repr(rest), []).append(row)
    scores = [_paired_scores(comparison, group) for group in groups.values() if len(group) > 1]
    return [float(np.ptp(seed)) for each in scores for seed in each]
