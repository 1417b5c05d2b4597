"""When a run evaluates and saves: at whole multiples of a number of updates, and at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class Cadence(TrainerCallback):
    """Asks for an evaluation every `evaluate_every` updates and after the last, a checkpoint every `save_every`.

    None: not in between. The last update is never checkpointed: what comes next is the finished run. A run that goes on
    from an update whose evaluation was due and isn't there, as `is_evaluated` says, begins with `evaluate`. Where
    `until` is given, there is a checkpoint after that update, and the run ends.
    """

    def __init__(
        self,
        *,
        evaluate_every: int | None,
        save_every: int | None,
        is_evaluated: Callable[[int], bool],
        evaluate: Callable[[], object],
        until: int | None = None,
    ) -> None:
        self._evaluate_every = evaluate_every
        self._save_every = save_every
        self._is_evaluated = is_evaluated
        self._evaluate = evaluate
        self._until = until

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        step = state.global_step
        if step > 0 and self._evaluation_is_due(step, state) and not self._is_evaluated(step):
            self._evaluate()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        step = state.global_step
        control.should_evaluate = self._evaluation_is_due(step, state)
        control.should_save = step < state.max_steps and _is_due(step, self._save_every)
        if step == self._until:
            control.should_save = control.should_training_stop = True
        return control

    def _evaluation_is_due(self, step: int, state: TrainerState) -> bool:
        return step >= state.max_steps or _is_due(step, self._evaluate_every)


def _is_due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0
