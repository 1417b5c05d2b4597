"""The rows of a comparison two by two, paired by seed: how much they differ, and whether by more than luck."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

from finetune.evaluation.comparison import FEWEST_SEEDS, Comparison, Row
from finetune.evaluation.record import RunRecord
from finetune.evaluation.statistics import Interval, holm, mean_interval, sign_flip_p_value

LEVEL = 0.95


@dataclass(frozen=True)
class Contrast:
    """How the score of the row `first` differs from that of `second`, seed by seed.

    `differences`: first − second of each of `seeds`, from runs that share initial weights and batches. `interval`: of
    their mean, None with fewer than 2. `p_value`: of the exact sign-flip test, None with fewer than 5; `adjusted`: by
    Holm, for as many contrasts as were tested.
    """

    first: str
    second: str
    seeds: tuple[int, ...]
    differences: tuple[float, ...]
    interval: Interval | None
    p_value: float | None
    adjusted: float | None = None
    context: str = ""
    bootstrap: Interval | None = None
    equivalent: bool | None = None
    seeds_needed: int | None = None

    @property
    def is_shown(self) -> bool:
        """Whether a difference is shown at 5%, all contrasts taken together."""
        return self.adjusted is not None and self.adjusted <= 1 - LEVEL


def contrasts(comparison: Comparison) -> list[Contrast]:
    """Returns a contrast for every two rows that have a seed in common and may be set against each other.

    Rows of different schedules may where all else is the same, chosen peak rates apart; against the study's reference
    alone, where it has one. Rows of one schedule may where they differ in one key.
    """
    pairs = itertools.combinations(comparison.rows, 2)
    found = [_contrast(comparison, first, second) for first, second in pairs if _may_be_set_against(first, second)]
    paired = [contrast for contrast in found if contrast.seeds]
    tested = [contrast.p_value for contrast in paired if contrast.p_value is not None]
    adjusted = iter(holm(tested))
    return [contrast if contrast.p_value is None else replace(contrast, adjusted=next(adjusted)) for contrast in paired]


def _may_be_set_against(first: Row, second: Row) -> bool:
    one, other = first.context, second.context
    differing = [key for key in one if one[key] != other.get(key)]
    if first.label == second.label:
        return len(differing) == 1
    references = {row.records[0].study.reference for row in (first, second) if row.records[0].study}
    names = {row.records[0].schedule.settings["name"] for row in (first, second)}
    return not differing and references <= {None, *names}


def _contrast(comparison: Comparison, first: Row, second: Row) -> Contrast:
    pairs = dict(_pairs(first, second))
    differences = tuple(_score(one, comparison) - _score(other, comparison) for one, other in pairs.values())
    count = len(differences)
    return Contrast(
        first=first.name,
        second=second.name,
        seeds=tuple(pairs),
        differences=differences,
        interval=mean_interval(differences, level=LEVEL) if count > 1 else None,
        p_value=sign_flip_p_value(differences) if count >= FEWEST_SEEDS else None,
    )


def _pairs(first: Row, second: Row) -> Iterator[tuple[int, tuple[RunRecord, RunRecord]]]:
    others = {record.identity.seed: record for record in second.finished}
    for record in sorted(first.finished, key=lambda record: record.identity.seed):
        other = others.get(record.identity.seed)
        if other is not None and _start(record) == _start(other):
            yield record.identity.seed, (record, other)


def _start(record: RunRecord) -> tuple[str, str]:
    return record.identity.model.initial_weights, record.identity.batches


def _score(record: RunRecord, comparison: Comparison) -> float:
    assert record.results is not None  # noqa: S101 - a finished run has them
    return record.results.splits[comparison.split].metrics[comparison.metric].value
