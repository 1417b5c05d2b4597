"""A cooldown that is asked for in the middle of a run: `trainer.add_callback(CooldownOnRequest(trainer, path))`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from finetune.errors import SettingError
from finetune.schedules.settings import fraction, interval, one_of
from finetune.schedules.shapes import SHAPES

LOOK_EVERY = 10


def write_request(path: Path, *, duration: str = "10%", shape: str = "sqrt", floor: float = 0.0) -> None:
    """Writes the request that `CooldownOnRequest` waits for; raises SettingError for a setting out of its range."""
    interval("duration", duration)
    one_of(tuple(SHAPES), {"1-sqrt": "sqrt"})("shape", shape)
    fraction("floor", floor)
    partial = path.with_name(f".{path.name}")
    partial.write_text(json.dumps({"duration": duration, "shape": shape, "floor": floor}), encoding="utf-8")
    partial.replace(path)


class CooldownOnRequest(TrainerCallback):
    """Looks every 10 updates whether there is a file `path`; if so, cools the rate down and ends the run with it.

    `trainer` has a ScheduleMixin. A cooldown longer than what is left of the run is cut to it. It is part of the
    scheduler's state: a resumed run goes on cooling down, and ends where it would have. `say` is given one line.
    """

    def __init__(self, trainer: Any, path: Path, *, say: Any = lambda line: None) -> None:
        self._trainer = trainer
        self._path = path
        self._say = say

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        state.max_steps = min(state.max_steps, self._trainer.lr_scheduler.total_steps)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        scheduler, left = self._trainer.lr_scheduler, state.max_steps - state.global_step
        if state.global_step % LOOK_EVERY or left < 1 or scheduler.cooldown is not None:
            return
        request = self._read()
        if request is not None:
            steps = min(left, scheduler.steps_of(request["duration"]))
            state.max_steps = scheduler.start_cooldown(steps, shape=request["shape"], floor=request["floor"])
            self._say(f"cooling down on request: {steps} updates from update {state.global_step} on")

    def _read(self) -> dict[str, Any] | None:
        """Returns the request, the same on every process, or None."""
        found: list[Any] = [None]
        if self._trainer.is_world_process_zero() and self._path.exists():
            try:
                found = [json.loads(self._path.read_text(encoding="utf-8"))]
                self._path.unlink()
            except (OSError, ValueError) as error:
                raise SettingError(str(self._path), f"can't be read as a request: {error}") from error
        request: dict[str, Any] | None = broadcast_object_list(found)[0]
        return request
