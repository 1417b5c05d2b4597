"""Where a run writes, and what it finds there."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.errors import RecordError
from finetune.keys import IMMATERIAL, is_among

if TYPE_CHECKING:
    from finetune.recipe import Recipe


def run_directory(recipe: Recipe, *, source: Path) -> Path:
    """Returns OUTPUT/RECIPE/SCHEDULE-OPTIMIZER-lrPEAK-seedN-HASH for `recipe`, read from the file `source`.

    The hash is over everything in the recipe but what is immaterial and what is left empty, with paths taken relative
    to the recipe's folder: the same recipe has the same name on another machine, and another recipe has another. Of
    plugins, the content counts.
    """
    content = {key: value for key, value in recipe.flatten().items() if not is_among(key, IMMATERIAL)}
    content["plugins"] = plugin_fingerprints(recipe)
    text = json.dumps(_relative(content, source.resolve().parent), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    peak = f"{recipe.optimizer.learning_rate:g}"
    name = f"{recipe.schedule.name}-{recipe.optimizer.name}-lr{peak}-seed{recipe.training.seed}-{digest}"
    return Path(recipe.output) / recipe.name / name


def plugin_fingerprints(recipe: Recipe) -> list[str]:
    """Returns the SHA-256 of each of the recipe's plugins."""
    return [hashlib.sha256(plugin.read_bytes()).hexdigest() for plugin in recipe.plugins]


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
