"""A run that is going on, asked to cool down and end."""

from __future__ import annotations

from pathlib import Path

from finetune.errors import RecordError
from finetune.evaluation.record import RECIPE, RECORD
from finetune.schedules.request import write_request

REQUEST = "cooldown.json"


def request_cooldown(run: Path, *, duration: str, shape: str, floor: float) -> None:
    """Asks the run in the directory `run`; raises RecordError where none is going on there."""
    if not (run / RECIPE).exists():
        raise RecordError(f"{run}: no run; give the directory that a run going on names as its output")
    if (run / RECORD).exists():
        raise RecordError(f"{run}: that run has ended; only one that is going on can cool down")
    write_request(run / REQUEST, duration=duration, shape=shape, floor=floor)
