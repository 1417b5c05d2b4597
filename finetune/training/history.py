"""The history of a run: a line per update and per evaluation, read off the device a few updates at a time."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from finetune.errors import RecordError
from finetune.evaluation.record import write_atomically
from finetune.training.clock import TrainingClock
from finetune.training.trainer import Update

Row = dict[str, Any]

READ_EVERY = 10
HEARD_WITHIN = 2.0  # seconds, on several processes


class History(TrainerCallback):
    """Collects rows, appends them to `path` (None: keeps them in memory alone), and stops a run that diverges.

    A row of an update has step (updates made, this one included), epoch, rates (of each group, as applied), loss (mean
    over the batch), gradient_norm (before clipping) and seconds (of training so far). A row of an evaluation has step,
    epoch, seconds and evaluation (metric ▶ value). Numbers that aren't finite are null.

    Losses stay on the device until `READ_EVERY` updates are waiting, so that training isn't held up; a loss that isn't
    finite is therefore noticed up to that many updates later. `take_update` gives the update just made,
    `mean_over_processes` reduces values over all processes, `show` is called with the last row of each reading, `track`
    with all rows, while the clock stands. `reason_to_stop` says why this process is to stop, if it is: the run then
    saves and stops after an update that all processes agree on, `stopped_at_step`, by what they reduce anyway.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        clock: TrainingClock,
        take_update: Callable[[], Update],
        mean_over_processes: Callable[[torch.Tensor], torch.Tensor],
        show: Callable[[Row], None],
        track: Callable[[list[Row]], None] = lambda _: None,
        reason_to_stop: Callable[[], str | None] = lambda: None,
        alone: bool = True,
    ) -> None:
        self.rows: list[Row] = []
        self.diverged_at_step: int | None = None
        self.stopped_at_step: int | None = None
        self._path = path
        self._clock = clock
        self._take_update = take_update
        self._mean_over_processes = mean_over_processes
        self._show = show
        self._track = track
        self._reason_to_stop = reason_to_stop
        self._alone = alone
        self._read_every = READ_EVERY if alone else 1
        self._rates: dict[str, float] = {}
        self._waiting: list[tuple[Row, Update]] = []

    def resume(self, rows: list[Row]) -> None:
        """Starts from `rows`, which replace what the file holds."""
        self.rows = list(rows)
        if self._path is not None:
            text = "".join(map(_line, rows))
            write_atomically(self._path, lambda path: path.write_text(text, encoding="utf-8"))
        self._track(rows)

    @property
    def updates(self) -> list[Row]:
        """The rows of updates, in order."""
        return [row for row in self.rows if "rates" in row]

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        groups = kwargs["optimizer"].param_groups
        self._rates = {group["name"]: float(group["lr"]) for group in groups}

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        row = {
            "step": state.global_step,
            "epoch": round(state.epoch or 0.0, 6),
            "rates": self._rates,
            "seconds": round(self._clock.seconds, 4),
        }
        self._waiting.append((row, self._take_update()))
        acting = control.should_evaluate or control.should_save or control.should_training_stop
        called = self._alone and self._reason_to_stop() is not None
        if acting or called or len(self._waiting) >= self._read_every:
            self._read()
        if self.diverged_at_step is not None:
            control.should_training_stop = True
            control.should_evaluate = control.should_save = False
        elif self.stopped_at_step is not None and state.global_step < state.max_steps:
            control.should_training_stop = control.should_save = True
        else:
            self.stopped_at_step = None
        return control

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        row = {
            "step": state.global_step,
            "epoch": round(state.epoch or 0.0, 6),
            "seconds": round(self._clock.seconds, 4),
            "evaluation": {name: _finite(value) for name, value in kwargs["metrics"].items()},
        }
        self._append([row])
        self._show(row)

    def _read(self) -> None:
        last = self._waiting[-1][0]
        losses = torch.stack([update.loss.float() for _, update in self._waiting])
        norms = torch.stack([update.gradient_norm.float().to(losses.device) for _, update in self._waiting])
        calls = torch.full_like(losses, float(self._reason_to_stop() is not None))
        seconds = torch.full_like(losses, last["seconds"])
        *values, called, passed = self._mean_over_processes(torch.stack([losses, norms, calls, seconds])).tolist()
        rows = []
        for (row, _), loss, norm in zip(self._waiting, *values, strict=True):
            rows.append({**row, "loss": _finite(loss), "gradient_norm": _finite(norm)})
            if self.diverged_at_step is None and not math.isfinite(loss):
                self.diverged_at_step = row["step"]
        if called[-1] > 0:
            self.stopped_at_step = last["step"]
        if not self._alone:
            self._read_every = max(1, min(READ_EVERY, int(HEARD_WITHIN * last["step"] / max(passed[-1], 1e-9))))
        self._waiting = []
        self._append(rows)
        self._show(rows[-1])

    def _append(self, rows: list[Row]) -> None:
        self.rows += rows
        self._write(rows)
        with self._clock.paused():
            self._track(rows)

    def _write(self, rows: list[Row]) -> None:
        if self._path is None:
            return
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.writelines(map(_line, rows))
        except OSError as error:
            raise RecordError(f"{self._path}: can't be written: {error.strerror}") from error


def _line(row: Row) -> str:
    return json.dumps(row, allow_nan=False) + "\n"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
