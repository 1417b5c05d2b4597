"""Which of the models that a run passes through is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from finetune.evaluation.record import Score, SplitResult

if TYPE_CHECKING:
    from finetune.metrics.base import Metric
    from finetune.tasks.encoding import EncodedSplit
    from finetune.tasks.text_classification import TextClassification
    from finetune.training.trainer import ScheduledTrainer

Logits = np.ndarray[Any, Any]
Keep = Literal["best", "last"]


@dataclass(frozen=True)
class Evaluation:
    """The validation split after `step` updates. `logits` is None for one known from an earlier process's history."""

    step: int
    values: Mapping[str, float]
    logits: Logits | None


class Selection:
    """Evaluates on validation when the trainer asks, and keeps the model that ranks first by `select`.

    Of equals the earliest stays. A value that isn't a number never ranks first. With keep="last" nothing is written in
    between. `save` writes the model at hand; every process calls it. `ranked_first`: the updates at which a model did.
    """

    def __init__(
        self,
        split: EncodedSplit,
        *,
        task: TextClassification,
        metrics: Sequence[Metric],
        select: str,
        keep: Keep,
        save: Callable[[ScheduledTrainer], None],
    ) -> None:
        self.best: Evaluation | None = None
        self.last: Evaluation | None = None
        self.ranked_first: list[int] = []
        self._split = split
        self._task = task
        self._metrics = metrics
        self._select = select
        self._keep = keep
        self._save = save

    def validate(self, trainer: ScheduledTrainer) -> dict[str, float]:
        """Evaluates the model as it is; returns the loss and each metric."""
        logits = trainer.predict_split(self._split)
        labels = self._split.labels
        predictions = self._task.predict(logits)
        values = {"loss": self._task.loss(logits, labels)}
        values |= {metric.metric_name: metric.value(predictions, labels) for metric in self._metrics}
        if self._consider(Evaluation(trainer.state.global_step, values, logits)) and self._keep == "best":
            self._save(trainer)
        return values

    def resume(self, rows: Sequence[dict[str, Any]]) -> None:
        """Takes up the evaluations of an earlier process from its history."""
        for row in rows:
            if "evaluation" in row:
                values = {name: math.nan if value is None else value for name, value in row["evaluation"].items()}
                self._consider(Evaluation(row["step"], values, None))

    def _consider(self, evaluation: Evaluation) -> bool:
        self.last = evaluation
        value = evaluation.values[self._select]
        if math.isfinite(value) and (self.best is None or value > self.best.values[self._select]):
            self.best = evaluation
            self.ranked_first.append(evaluation.step)
        return self.best is evaluation


def score(task: TextClassification, metrics: Sequence[Metric], logits: Logits, labels: Logits) -> SplitResult:
    """Returns the loss, and each metric with its standard error, of logits against labels."""
    predictions = task.predict(logits)
    loss = task.loss(logits, labels)
    return SplitResult(
        count=len(labels),
        loss=loss if math.isfinite(loss) else None,
        metrics={
            metric.metric_name: Score(
                value=metric.value(predictions, labels), standard_error=metric.standard_error(predictions, labels)
            )
            for metric in metrics
        },
    )
