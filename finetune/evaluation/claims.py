"""What is measured of a setting beyond its score: how soon it learns, how much it minds the peak rate, what it costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from finetune.evaluation.statistics import Interval


@dataclass(frozen=True)
class Measure:
    """A column of the measured claims; `meaning` says how it was measured."""

    title: str
    unit: str
    better: Literal["more", "less", "neither"]
    meaning: str


@dataclass(frozen=True)
class Measured:
    """The mean over `runs` runs with a t interval (bounds NaN for one run); `note`: why there is none, or how to read it."""

    value: Interval | None
    runs: int
    note: str = ""


MEASURES: dict[str, Measure] = {
    "score": Measure("score", "", "more", "the metric of the kept model on the split that the rows are judged on"),
    "updates_to_target": Measure(
        "updates to target", "updates", "less", "the first evaluation whose validation score is at least the target"
    ),
    "seconds_to_target": Measure("time to target", "s", "less", "seconds of training up to that evaluation"),
    "updates_to_95": Measure(
        "updates to 95%", "updates", "less", "the first evaluation at 95% of the run's own best validation score"
    ),
    "seconds_to_95": Measure("time to 95%", "s", "less", "seconds of training up to that evaluation"),
    "area": Measure(
        "area under the curve", "", "more", "the mean validation score between the first and the last evaluation"
    ),
    "spread_over_peaks": Measure(
        "spread over peak rates", "", "less", "best less worst validation score over the peak rates tried, seed by seed"
    ),
    "spread_over_optimizers": Measure(
        "spread over optimizers", "", "less", "best less worst score over the optimizers, seed by seed"
    ),
    "spread_over_data": Measure(
        "spread over data sets", "", "less", "best less worst score over the data sets, seed by seed"
    ),
    "overhead": Measure("overhead of an update", "µs", "less", "what the schedule takes at each update"),
    "overhead_share": Measure("overhead, share", "%", "less", "the same, as a share of an update's time"),
    "settings": Measure("settings", "", "less", "how many settings of the schedule the recipe gives"),
    "train_seconds": Measure("training time", "s", "less", "seconds of updates alone, without evaluations"),
}
"""The columns, in their order."""
