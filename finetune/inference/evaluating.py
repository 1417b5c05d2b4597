"""A run's model scored on labelled data of later, beside what it scored on its own test split."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune.data import Rows
from finetune.evaluation.record import Score, SplitResult
from finetune.inference.finished import FinishedRun
from finetune.metrics import check_metric, load_metric
from finetune.tasks.columns import GIVEN
from finetune.training.selection import score

if TYPE_CHECKING:
    from collections.abc import Callable

    from finetune.inference.predictor import Predictor
    from finetune.metrics.answers import Answers
    from finetune.metrics.base import Metric

TEST = "test"
WIDTH = NormalDist().inv_cdf(0.975)
"""How many standard errors an interval of 95% reaches to either side, where a figure is about normal."""
Interval = tuple[float, float]

CAUTIONS = {
    "train": "these are the very examples that the run was trained on: the scores say nothing of new ones",
    "validation": "these are the run's validation examples, by which its model may have been chosen: they flatter it",
    TEST: "these are the run's own test examples: the scores are those of its record, up to rounding",
}
"""What there is to say of data that is one of the run's own splits."""


@dataclass(frozen=True)
class ClassScores:
    """One class: how many examples are of it, and how it is predicted; None where nothing says that."""

    name: str
    count: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class Difference:
    """How far a metric lies from the one on the run's test split, and the 95% interval of that, if it has one.

    Both sets of examples are taken for drawn by themselves, so that the squares of the standard errors add up.
    """

    test: Score
    value: float
    interval: Interval | None

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves no difference out."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]


@dataclass(frozen=True)
class LaterScores:
    """`scores`: on the later data; `classes`: of each class, where there are classes; `same_as`: the run's own split
    that the data is, None where it is none."""

    scores: SplitResult
    classes: Sequence[ClassScores]
    test: SplitResult | None
    same_as: str | None

    @property
    def caution(self) -> str | None:
        """What the scores must be read with."""
        return None if self.same_as is None else CAUTIONS[self.same_as]

    def difference(self, metric: str) -> Difference | None:
        """Returns how far `metric` lies from the test split's; None where it isn't known there, or is the same."""
        ours = self.scores.metrics[metric]
        theirs = self.test.metrics.get(metric) if self.test is not None else None
        if self.same_as == TEST or theirs is None or ours.value is None or theirs.value is None:
            return None
        value = ours.value - theirs.value
        errors = (ours.standard_error, theirs.standard_error)
        known = [error for error in errors if error is not None]
        return Difference(theirs, value, _around(value, math.hypot(*known)) if len(known) == len(errors) else None)

    def to_dict(self) -> dict[str, Any]:
        """Returns everything as plain values."""
        return {
            "count": self.scores.count,
            "loss": self.scores.loss,
            "metrics": {name: self._plain(name) for name in self.scores.metrics},
            "classes": [vars(each) for each in self.classes],
            "same_as": self.same_as,
            "caution": self.caution,
        }

    def _plain(self, metric: str) -> dict[str, Any]:
        ours, difference = self.scores.metrics[metric], self.difference(metric)
        plain = {**ours.model_dump(), "interval": interval_of(ours)}
        if difference is None:
            return plain
        return (
            plain
            | {"test": difference.test.model_dump(), "difference": difference.value}
            | {"difference_interval": difference.interval}
        )


def metrics_for(run: FinishedRun, names: Sequence[str] | None, *, trust_remote_code: bool = False) -> list[Metric]:
    """Returns the metrics called `names`, by default the run's own; raises SettingError where one can't score it."""
    chosen = names or run.record.recipe["evaluation"]["metrics"]
    for name in chosen:
        check_metric(name, run.task.form)
    return [load_metric(name, trust_remote_code=trust_remote_code) for name in chosen]


def evaluate(run: FinishedRun, rows: Rows, load: Callable[[], Predictor], *, metrics: Sequence[Metric]) -> LaterScores:
    """Returns the scores of the run's model, which `load` loads once the labels of `rows` are known to be its classes.

    Raises DataError for rows that the task can't read.
    """
    examples = run.task.read_for(rows, run.classes, labelled=True)
    predictor = load()
    split = predictor.encode(examples, GIVEN)
    judgement = run.task.judge(predictor.outputs(split), split, run.classes)
    results = run.record.results
    return LaterScores(
        scores=score(judgement, metrics),
        classes=tuple(scores_of_classes(judgement.answers)),
        test=results.splits.get(TEST) if results else None,
        same_as=own_split(run, rows, examples),
    )


def own_split(run: FinishedRun, rows: Rows, examples: Any) -> str | None:
    """Returns the name of the run's split that `rows`, read as `examples`, are in content and order; else None."""
    fingerprint = run.task.fingerprint(rows, examples)
    own = run.record.identity.data.items()
    return next((name for name, identity in own if identity.fingerprint == fingerprint), None)


def interval_of(found: Score) -> Interval | None:
    """Returns the 95% interval of a metric over the choice of examples; None where its standard error isn't known."""
    if found.value is None or found.standard_error is None:
        return None
    return _around(found.value, found.standard_error)


def _around(value: float, error: float) -> Interval:
    return value - WIDTH * error, value + WIDTH * error


def scores_of_classes(answers: Answers) -> Iterator[ClassScores]:
    """Yields the scores of each class, or of each label where examples have sets of them; nothing for other answers.

    Of a class's TP, FP and FN, precision is TP / (TP + FP), recall TP / (TP + FN), F1 2TP / (2TP + FP + FN).
    """
    for number, name in enumerate(answers.names):
        if answers.form == "classes":
            predicted, true = answers.predictions == number, answers.references == number
        elif answers.form == "label_sets":
            predicted, true = answers.predictions[:, number] == 1, answers.references[:, number] == 1
        else:
            return
        right, guesses, count = (int(np.count_nonzero(each)) for each in (predicted & true, predicted, true))
        yield ClassScores(name, count, _share(right, guesses), _share(right, count), _share(2 * right, guesses + count))


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
