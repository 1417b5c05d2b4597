"""When a run evaluates and saves: at whole multiples of a number of updates, and at the end."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class Cadence(TrainerCallback):
    """Asks for an evaluation every `evaluate_every` updates and after the last, a checkpoint every `save_every`.

    None: not in between. The last update is never checkpointed: what comes next is the finished run.
    """

    def __init__(self, *, evaluate_every: int | None, save_every: int | None) -> None:
        self._evaluate_every = evaluate_every
        self._save_every = save_every

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        step = state.global_step
        last = step >= state.max_steps
        control.should_evaluate = last or _is_due(step, self._evaluate_every)
        control.should_save = not last and _is_due(step, self._save_every)
        return control


def _is_due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0
