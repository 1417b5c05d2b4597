"""All that is known of one comparison, as plain data for the terminal, the page and the exported files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finetune.evaluation.claims import MEASURES, Measure, Measured
from finetune.evaluation.contrasts import Contrast
from finetune.evaluation.runs import RecordedRun
from finetune.evaluation.statistics import Interval

__all__ = [
    "MEASURES",
    "AcrossContexts",
    "Measure",
    "Measured",
    "PeakPoint",
    "RowSummary",
    "Summary",
]


@dataclass(frozen=True)
class RowSummary:
    """One row. `name`: unique in the summary; `schedule`: the label of its schedule; `settings`: those, in words.

    `others`: further keys in which rows differ; `context`: the same in words, "" where there are none, and rows of one
    context are compared with one another. `peaks`: the distinct peak rates of its runs. `score`: the mean over seeds
    with a t interval, None with no finished run, its bounds NaN with one. `measures`: by the keys of MEASURES.
    """

    name: str
    schedule: str
    settings: str
    others: Mapping[str, Any]
    context: str
    peaks: tuple[float, ...]
    runs: tuple[RecordedRun, ...]
    diverged: int
    score: Interval | None
    measures: Mapping[str, Measured]


@dataclass(frozen=True)
class PeakPoint:
    """The best validation score of one run at one peak rate; None: it diverged. `chosen`: the final runs have that peak."""

    schedule: str
    context: str
    peak: float
    seed: int
    score: float | None
    chosen: bool


@dataclass(frozen=True)
class AcrossContexts:
    """A schedule over all contexts: its mean rank among the schedules (1 the best), and the interquartile mean score."""

    schedule: str
    mean_rank: float
    interquartile_mean: float
    contexts: int


@dataclass(frozen=True)
class Summary:
    """One comparison. `name`: the study's or the recipe's; `split`, `metric`, `count`: what the rows are judged on.

    `rows`: best mean first. `groups`: context ▶ the largest groups of rows of which no two are shown to differ.
    `conclusion`, `cautions`: sentences, the most important first. `peaks`: scores over peak rates.
    """

    name: str
    split: str
    metric: str
    count: int
    rows: tuple[RowSummary, ...]
    contrasts: tuple[Contrast, ...]
    groups: Mapping[str, tuple[tuple[str, ...], ...]]
    conclusion: tuple[str, ...]
    cautions: tuple[str, ...]
    peaks: tuple[PeakPoint, ...]
    across: tuple[AcrossContexts, ...]
