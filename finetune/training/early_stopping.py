"""Ending a run whose evaluations get no better."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

if TYPE_CHECKING:
    from finetune.metrics.base import Metric
    from finetune.recipe import Recipe
    from finetune.recipe.regularisation import EarlyStopping
    from finetune.training.history import Row


class StopsEarly(TrainerCallback):
    """Ends training once `settings.patience` evaluations in a row weren't better than the best before them.

    Better is by more than `settings.min_delta`, in the direction of the metric `select`; a value that isn't finite
    never is. `stopped_at_step`: the update after which it ended the run, None unless it did: the last evaluation of a
    whole run stops nothing.
    """

    def __init__(self, settings: EarlyStopping, *, select: str, greater_is_better: bool) -> None:
        self.stopped_at_step: int | None = None
        self.best_step: int | None = None
        self._settings = settings
        self._select = select
        self._sign = 1.0 if greater_is_better else -1.0
        self._best = -math.inf
        self._without_gain = 0

    def resume(self, rows: Sequence[Row]) -> None:
        """Takes up the evaluations of an earlier process from its history."""
        for row in rows:
            if "evaluation" in row:
                self._see(row["step"], row["evaluation"][self._select])

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        return self._decide(state, control)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        self._see(state.global_step, kwargs["metrics"][self._select])
        return self._decide(state, control)

    def _see(self, step: int, value: float | None) -> None:
        merit = -math.inf if value is None or not math.isfinite(value) else self._sign * value
        gained = merit > self._best + self._settings.min_delta
        if gained:
            self._best, self.best_step = merit, step
        self._without_gain = 0 if gained else self._without_gain + 1

    def _decide(self, state: TrainerState, control: TrainerControl) -> TrainerControl:
        if self._without_gain >= self._settings.patience and state.global_step < state.max_steps:
            self.stopped_at_step = state.global_step
            control.should_training_stop = True
        return control


def early_stopping(recipe: Recipe, metric: Metric) -> StopsEarly | None:
    """Returns what ends the runs of `recipe` early by `metric`, which selects; None where nothing does."""
    settings = recipe.evaluation.early_stopping
    if settings is None:
        return None
    return StopsEarly(settings, select=metric.metric_name, greater_is_better=metric.greater_is_better)
