"""The history of a run: a line per update and per evaluation, read off the device a few updates at a time."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from finetune.errors import RecordError
from finetune.evaluation.record import NonFinite, write_atomically
from finetune.training.clock import TrainingClock
from finetune.training.trainer import Update
from finetune.training.whole_folders import flush

Row = dict[str, Any]

READ_EVERY = 10
HEARD_WITHIN = 2.0  # seconds, on several processes
MOST_SKIPPED = 30  # in a row: a scaler of fp16 needs some twenty to come down from where it starts

Policy = Literal["stop", "skip", "continue"]


class History(TrainerCallback):
    """Collects rows, appends them to `path` (None: keeps them in memory alone), and stops a run that diverges.

    A row of an update has step (updates made, this one included), epoch, rates (of each group, as applied), loss (mean
    over the batch), gradient_norm (before clipping), seconds (of training so far) and, where it was left out, skipped.
    A row of an evaluation has step, epoch, seconds and evaluation (metric ▶ value), and, where averages of the weights
    are evaluated too, beside (whose they are ▶ likewise). A number that isn't finite is null.

    Losses stay on the device until `READ_EVERY` updates are waiting, so that training isn't held up; a loss that isn't
    finite is therefore noticed up to that many updates later. What then happens is `on_non_finite`: "stop" ends the
    run, `diverged_at_step`; "skip" does once `MOST_SKIPPED` updates in a row were left out; "continue" does if the last
    loss of the run isn't finite. `take_update` gives the update just made, `mean_over_processes` reduces values over
    all processes, `show` is called with the last row of each reading, `track` with all rows, while the clock stands;
    `beside` gives the other metrics of an evaluation. `reason_to_stop` says why this process is to stop, if it is: the
    run then saves and stops after an update that all processes agree on, `stopped_at_step`, by what they reduce anyway.
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
        beside: Callable[[], Mapping[str, Mapping[str, float]]] = dict,
        reason_to_stop: Callable[[], str | None] = lambda: None,
        alone: bool = True,
        on_non_finite: Policy = "stop",
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
        self._beside = beside
        self._reason_to_stop = reason_to_stop
        self._alone = alone
        self._on_non_finite = on_non_finite
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

    @property
    def non_finite(self) -> NonFinite:
        """How many updates had a loss or a gradient that wasn't finite, and how many were skipped."""
        updates = self.updates
        return NonFinite(
            losses=sum(row["loss"] is None for row in updates),
            gradients=sum(row["gradient_norm"] is None for row in updates),
            skipped=sum(map(_is_skipped, updates)),
        )

    def flush(self) -> None:
        """Has the operating system write the history to disk; raises RecordError where it can't."""
        if self._path is not None:
            with _writing(self._path):
                flush(self._path)

    def is_evaluated(self, step: int) -> bool:
        """Whether there is an evaluation after update `step`."""
        return any(row["step"] == step and "evaluation" in row for row in self.rows)

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
        update = self._take_update()
        if update.skipped:
            row["skipped"] = True
        self._waiting.append((row, update))
        acting = control.should_evaluate or control.should_save or control.should_training_stop
        called = self._alone and self._reason_to_stop() is not None
        if acting or called or len(self._waiting) >= self._read_every:
            rows = self._read()
            self.diverged_at_step = self._find_divergence(rows, is_last=state.global_step >= state.max_steps)
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
            "evaluation": _all_finite(kwargs["metrics"]),
        }
        beside = self._beside()
        if beside:
            row["beside"] = {name: _all_finite(values) for name, values in beside.items()}
        self._append([row])
        self._show(row)

    def _read(self) -> list[Row]:
        last = self._waiting[-1][0]
        losses = torch.stack([update.loss.float() for _, update in self._waiting])
        norms = torch.stack([update.gradient_norm.float().to(losses.device) for _, update in self._waiting])
        calls = torch.full_like(losses, float(self._reason_to_stop() is not None))
        seconds = torch.full_like(losses, last["seconds"])
        *values, called, passed = self._mean_over_processes(torch.stack([losses, norms, calls, seconds])).tolist()
        rows = []
        for (row, _), loss, norm in zip(self._waiting, *values, strict=True):
            rows.append({**row, "loss": _finite(loss), "gradient_norm": _finite(norm)})
        if called[-1] > 0:
            self.stopped_at_step = last["step"]
        if not self._alone:
            self._read_every = max(1, min(READ_EVERY, int(HEARD_WITHIN * last["step"] / max(passed[-1], 1e-9))))
        self._waiting = []
        self._append(rows)
        self._show(rows[-1])
        return rows

    def _find_divergence(self, rows: list[Row], *, is_last: bool) -> int | None:
        """Returns the update at which the run diverged, if it did by the updates just read."""
        if self._on_non_finite == "stop":
            return next((row["step"] for row in rows if _is_lost(row)), None)
        backwards = (row for row in reversed(self.rows) if "rates" in row)
        if self._on_non_finite == "skip":
            steps = [row["step"] for row in itertools.takewhile(_is_skipped, backwards)]
            return steps[-1] if len(steps) >= MOST_SKIPPED else None
        steps = [row["step"] for row in itertools.takewhile(_is_lost, backwards)] if is_last else []
        return steps[-1] if steps else None

    def _append(self, rows: list[Row]) -> None:
        self.rows += rows
        self._write(rows)
        with self._clock.paused():
            self._track(rows)

    def _write(self, rows: list[Row]) -> None:
        if self._path is not None:
            with _writing(self._path), self._path.open("a", encoding="utf-8") as file:
                file.writelines(map(_line, rows))


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RecordError(f"{path}: can't be written: {error.strerror}") from error


def _line(row: Row) -> str:
    return json.dumps(row, allow_nan=False) + "\n"


def _is_skipped(row: Row) -> bool:
    return bool(row.get("skipped", False))


def _is_lost(row: Row) -> bool:
    """Whether an update was made with a loss or a gradient that isn't finite."""
    return row["loss"] is None or (row["gradient_norm"] is None and not _is_skipped(row))


def _all_finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: _finite(value) for name, value in values.items()}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
