"""Which of the models that a run passes through is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from finetune.evaluation.record import Evaluated, Score, SplitResult, finite
from finetune.training.averaging import Averages

if TYPE_CHECKING:
    from finetune.metrics.base import Metric
    from finetune.tasks.base import Judgement, Outputs, Split, Task
    from finetune.training.averaging import Name
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


class Ranking:
    """Which of the evaluations of a run's weights is the best, and which the last.

    Of equals the earliest is the best. A value that isn't a number never is. `ranked_first`: the updates after which
    one was.
    """

    def __init__(self, select: str, *, greater_is_better: bool) -> None:
        self.best: Evaluation | None = None
        self.last: Evaluation | None = None
        self.ranked_first: list[int] = []
        self._select = select
        self._greater_is_better = greater_is_better

    def consider(self, evaluation: Evaluation) -> bool:
        """Takes one more; returns whether it is the best."""
        self.last = evaluation
        value = evaluation.values[self._select]
        if math.isfinite(value) and (self.best is None or self._is_better(value, self.best.values[self._select])):
            self.best = evaluation
            self.ranked_first.append(evaluation.step)
        return self.best is evaluation

    def _is_better(self, value: float, other: float) -> bool:
        return value > other if self._greater_is_better else value < other


class Selection:
    """Evaluates on validation when the trainer asks, and keeps the model that ranks first by `select`.

    With keep="last" nothing is written in between. `save` writes the model at hand; every process calls it. Of several
    `averages` of the weights each is evaluated; those that aren't ranked are `beside`, in the last evaluation by name.
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
        averages: Averages | None = None,
    ) -> None:
        self._split = split
        self._task = task
        self._classes = classes
        self._metrics = metrics
        self.metric = next(metric for metric in metrics if metric.metric_name == select)
        self._keep = keep
        self._save = save
        self._averages = averages or Averages(None)
        better = self.metric.greater_is_better
        self.rankings = {name: Ranking(select, greater_is_better=better) for name in self._averages.evaluated}
        self.beside: dict[str, Mapping[str, float]] = {}

    @property
    def best(self) -> Evaluation | None:
        """The evaluation that ranks first, if one does."""
        return self._ranking.best

    @property
    def last(self) -> Evaluation | None:
        """The last evaluation, once there is one."""
        return self._ranking.last

    @property
    def ranked_first(self) -> list[int]:
        """The updates at which a model ranked first."""
        return self._ranking.ranked_first

    @property
    def _ranking(self) -> Ranking:
        return self.rankings[self._averages.ranked]

    def validate(self, trainer: ScheduledTrainer) -> dict[str, float]:
        """Evaluates the model as it is; returns the loss and each metric."""
        ranked = self._averages.ranked
        found = {name: self.evaluate(trainer, name) for name in self.rankings}
        self._averages.note_evaluation()
        for name, evaluation in found.items():
            ranks_first = self.rankings[name].consider(evaluation)
            if name == ranked and ranks_first and self._keep == "best":
                with self._averages.using(name):
                    self._save(trainer)
        self.beside = {name: evaluation.values for name, evaluation in found.items() if name != ranked}
        return dict(found[ranked].values)

    def evaluate(self, trainer: ScheduledTrainer, weights: Name) -> Evaluation:
        """Evaluates one of the run's averages, or the weights as they are, and leaves the model as it is."""
        with self._averages.using(weights):
            outputs = trainer.predict_split(self._split)
        judgement = self._task.judge(outputs, self._split, self._classes)
        values = {"loss": judgement.loss}
        values |= {metric.metric_name: metric.value(judgement.answers) for metric in self._metrics}
        return Evaluation(trainer.state.global_step, values, outputs)

    def resume(self, rows: Sequence[dict[str, Any]]) -> None:
        """Takes up the evaluations of an earlier process from its history."""
        for row in rows:
            if "evaluation" in row:
                evaluated = {self._averages.ranked: row["evaluation"], **row.get("beside", {})}
                for name, ranking in self.rankings.items():
                    values = {key: math.nan if value is None else value for key, value in evaluated[name].items()}
                    ranking.consider(Evaluation(row["step"], values, None))


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
