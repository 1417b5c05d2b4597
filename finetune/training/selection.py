"""Which of the models that a run passes through is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from finetune.evaluation.record import Evaluated, Score, SplitResult, finite

if TYPE_CHECKING:
    from finetune.metrics.base import Metric
    from finetune.tasks.base import Judgement, Outputs, Split, Task
    from finetune.training.trainer import ScheduledTrainer

Keep = Literal["best", "last"]


@dataclass(frozen=True)
class Evaluation:
    """The validation split after `step` updates. `outputs` is None for one known from an earlier process's history."""

    step: int
    values: Mapping[str, float]
    outputs: Outputs | None

    def recorded(self) -> Evaluated:
        """Returns what a record says of it."""
        return Evaluated(step=self.step, validation={name: finite(value) for name, value in self.values.items()})


class Selection:
    """Evaluates on validation when the trainer asks, and keeps the model that ranks first by `select`.

    Of equals the earliest stays. A value that isn't a number never ranks first. With keep="last" nothing is written in
    between. `save` writes the model at hand; every process calls it. `ranked_first`: the updates at which a model did.
    """

    def __init__(
        self,
        split: Split,
        *,
        task: Task,
        classes: Sequence[str],
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
        self._classes = classes
        self._metrics = metrics
        self._select = select
        self.metric = next(metric for metric in metrics if metric.metric_name == select)
        self._keep = keep
        self._save = save

    def validate(self, trainer: ScheduledTrainer) -> dict[str, float]:
        """Evaluates the model as it is; returns the loss and each metric."""
        outputs = trainer.predict_split(self._split)
        judgement = self._task.judge(outputs, self._split, self._classes)
        values = {"loss": judgement.loss}
        values |= {metric.metric_name: metric.value(judgement.answers) for metric in self._metrics}
        if self._consider(Evaluation(trainer.state.global_step, values, outputs)) and self._keep == "best":
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
        if math.isfinite(value) and (self.best is None or self._is_better(value, self.best.values[self._select])):
            self.best = evaluation
            self.ranked_first.append(evaluation.step)
        return self.best is evaluation

    def _is_better(self, value: float, other: float) -> bool:
        return value > other if self.metric.greater_is_better else value < other


def score(judgement: Judgement, metrics: Sequence[Metric]) -> SplitResult:
    """Returns the loss, and each metric with its standard error."""
    answers = judgement.answers
    return SplitResult(
        count=len(answers),
        loss=finite(judgement.loss),
        metrics={
            metric.metric_name: Score(
                value=finite(metric.value(answers)), standard_error=finite(metric.standard_error(answers))
            )
            for metric in metrics
        },
    )
