"""What is asked of a model's folder before anything in it is loaded."""

from __future__ import annotations

import json
from pathlib import Path

from finetune.errors import ModelError, did_you_mean_path
from finetune.tasks.trust import INDEX, refuse_what_lies_elsewhere

WEIGHTS = ("model.safetensors", INDEX)
CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER = f"is an adapter ({ADAPTER_CONFIG}), not a model: merge it into its base first, or name that base"


def check_location(location: str, *, local: bool) -> None:
    """Raises ModelError where a local folder lacks what a model needs, or reaches out of itself.

    A repository is checked when it is read.
    """
    folder = Path(location)
    if not local:
        if folder.is_dir():  # which transformers would take for the repository
            raise ModelError(f"{folder}: is a folder here, not a repository (model.hub); for it write model.path")
        return
    if not folder.is_dir():
        near = did_you_mean_path(folder)
        raise ModelError(f"{folder}: no such folder (model.path){near}; for a model on the Hub write model.hub")
    if (folder / ADAPTER_CONFIG).exists():
        raise ModelError(f"{folder}: {ADAPTER} (model.path)")
    if not (folder / CONFIG).is_file():
        raise ModelError(f"{folder}: holds no {CONFIG}, so it is not a model folder (model.path)")
    if not any((folder / name).is_file() for name in WEIGHTS):
        raise ModelError(f"{folder}: holds no weights: {' or '.join(WEIGHTS)} is needed (pickled weights aren't read)")
    refuse_what_lies_elsewhere(folder)


def check_length(location: str, max_length: int, *, tokenizer: float, positions: int | None) -> None:
    """Raises ModelError where `max_length` is more tokens than the tokenizer allows or the model has positions."""
    longest = min(tokenizer, positions or max_length)
    if max_length > longest:
        raise ModelError(
            f"{location}: takes {longest} tokens at most, not {max_length}; set task.max_length to {longest} or less"
        )


def number_in(path: Path, key: str) -> int | None:
    """Returns a whole number in a file that a model needn't have, nor need it be there."""
    try:
        value = json.loads(path.read_text(encoding="utf-8")).get(key)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path}: can't be read ({error})") from error
    return value if type(value) is int else None
