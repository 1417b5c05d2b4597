"""Metrics of the probabilities that a model gives."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from finetune.metrics.answers import Answers, Form
from finetune.metrics.base import Metric, SumMetric, Values, probabilities, quotient

Flags = np.ndarray[Any, np.dtype[np.bool_]]

BINS = 15
"""As Guo et al. 2017 have it."""


class Auroc(Metric):
    """The probability that a random positive scores above a random negative, a tie counting half (Hanley 1982).

    Of two classes the second is the positive one; of more, and of labels, it is the mean over those that some examples
    have and others lack, each against the rest. NaN where there is none, or a score is NaN.

    Its standard error is DeLong's (1988) in its plug-in form, √Σψ² / n, where ψ is how much an example weighs in it.
    """

    metric_name: ClassVar[str] = "auroc"
    formula: ClassVar[str] = "P(score of a positive > score of a negative) + ½ P(equal)"
    forms: ClassVar[tuple[Form, ...]] = ("classes", "label_sets")
    needs_scores: ClassVar[bool] = True

    def value(self, answers: Answers) -> float:
        return self._areas(answers)[0]

    def standard_error(self, answers: Answers) -> float:
        area, influences = self._areas(answers)
        return math.nan if math.isnan(area) else float(np.sqrt(np.sum(influences**2))) / len(answers)

    def _areas(self, answers: Answers) -> tuple[float, Values]:
        """Returns the mean area, and each example's influence on it."""
        columns = [(scores, true) for scores, true in self._columns(answers) if true.any() and not true.all()]
        if not columns or np.isnan(answers.scores).any():
            return math.nan, np.zeros(len(answers))
        areas, influences = zip(*(_area_under_curve(scores, true) for scores, true in columns), strict=True)
        return float(np.mean(areas)), np.mean(influences, axis=0)

    def _columns(self, answers: Answers) -> Iterator[tuple[Values, Flags]]:
        """Yields the scores of each class or label, and which examples have it."""
        scores = probabilities(self, answers)
        if answers.form == "label_sets":
            yield from zip(scores.T, answers.references.T != 0, strict=True)
            return
        for number in [1] if scores.shape[1] == 2 else range(scores.shape[1]):
            yield scores[:, number], answers.references == number


def _area_under_curve(scores: Values, positive: Flags) -> tuple[float, Values]:
    """Returns the area under the receiver operating characteristic, and the influence of each example on it."""
    places = np.where(positive, _share_below(scores, scores[~positive]), 1 - _share_below(scores, scores[positive]))
    area = float(places[positive].mean())
    shares = np.where(positive, positive.mean(), 1 - positive.mean())
    return area, (places - area) / shares


def _share_below(scores: Values, others: Values) -> Values:
    """Returns the share of `others` that is below each score, an equal one counting half."""
    in_order = np.sort(others)
    below, up_to = np.searchsorted(in_order, scores), np.searchsorted(in_order, scores, side="right")
    share: Values = (below + up_to) / (2 * len(others))
    return share


class CalibrationError(SumMetric):
    """How far the probability of the likeliest class is from how often that class is right; lower is better.

    The expected calibration error over 15 bins (0, 1/15], (1/15, 2/15], … of that probability (Guo et al. 2017, arXiv
    1706.04599). NaN of no examples.
    """

    metric_name: ClassVar[str] = "calibration_error"
    formula: ClassVar[str] = "Σ over 15 bins of |right − Σ confidence| / n"
    forms: ClassVar[tuple[Form, ...]] = ("classes",)
    greater_is_better: ClassVar[bool] = False
    needs_scores: ClassVar[bool] = True

    def statistics(self, answers: Answers) -> Values:
        scores = probabilities(self, answers)
        confidence = scores.max(axis=1)
        gap = (scores.argmax(axis=1) == answers.references) - confidence
        bins = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], confidence)
        sums = np.zeros((len(answers), BINS + 1))
        sums[np.arange(len(answers)), bins] = gap
        sums[:, BINS] = 1
        return sums

    def of_sums(self, sums: Values) -> Values:
        return quotient(np.abs(sums[..., :BINS]).sum(axis=-1), sums[..., BINS], undefined=math.nan)
