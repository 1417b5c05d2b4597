"""Where a run writes, and what it finds there."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.errors import RecordError
from finetune.evaluation.record import write_atomically

if TYPE_CHECKING:
    from finetune.recipe import Recipe

CHECKPOINTS = "checkpoints"
FINGERPRINTS = "data.json"


def run_directory(recipe: Recipe, *, source: Path) -> Path:
    """Returns OUTPUT/RECIPE/SCHEDULE-OPTIMIZER-lrPEAK-seedN-HASH for `recipe`, read from the file `source`.

    The hash is over everything in the recipe but its output, its tracking and what is left empty, with paths taken
    relative to the recipe's folder: the same recipe has the same name on another machine, and another recipe has
    another. Of plugins, the content counts.
    """
    content = recipe.to_dict()
    del content["output"], content["tracking"]
    content["plugins"] = [hashlib.sha256(plugin.read_bytes()).hexdigest() for plugin in recipe.plugins]
    folder = source.resolve().parent
    text = json.dumps(_relative(content, folder), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    peak = f"{recipe.optimizer.learning_rate:g}"
    name = f"{recipe.schedule.name}-{recipe.optimizer.name}-lr{peak}-seed{recipe.training.seed}-{digest}"
    return Path(recipe.output) / recipe.name / name


def _relative(value: Any, folder: Path) -> Any:
    if isinstance(value, dict):
        return {key: _relative(item, folder) for key, item in value.items() if item not in (None, {}, [])}
    if isinstance(value, list | tuple):
        return [_relative(item, folder) for item in value]
    if isinstance(value, str) and value.startswith("/"):
        return os.path.relpath(value, folder)
    return value


def claim(run: Path) -> None:
    """Makes the directory `run`; raises RecordError where it can't be made or written to."""
    probe = run / f".{os.getpid()}.probe"
    try:
        run.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise RecordError(f"{run}: can't be written to ({error.strerror}); set output to a folder that can") from error


def newest_checkpoint(run: Path) -> Path | None:
    """Returns the checkpoint of `run` made last, of those written to their end."""
    complete = [path.parent for path in (run / CHECKPOINTS).glob("checkpoint-*/trainer_state.json")]
    return max(complete, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def write_fingerprints(run: Path, fingerprints: Mapping[str, str]) -> None:
    """Writes beside the checkpoints of `run` what data they are made on."""
    text = json.dumps(dict(fingerprints))
    write_atomically(run / CHECKPOINTS / FINGERPRINTS, lambda path: path.write_text(text, encoding="utf-8"))


def read_fingerprints(run: Path) -> dict[str, str]:
    """Returns what data the checkpoints of `run` were made on: split ▶ fingerprint."""
    path = run / CHECKPOINTS / FINGERPRINTS
    try:
        fingerprints: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: can't be read, so the run can't go on; pass --repeat to begin anew") from error
    return fingerprints
