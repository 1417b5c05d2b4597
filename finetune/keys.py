"""What the dotted keys of a recipe decide: where a run lies, how it is computed, or what; and their values in words."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

IMMATERIAL = (
    "name",
    "output",
    "tracking",
    "checkpoints",
    "training.cuda_graphs",
    "training.micro_batch_size",
    "training.on_out_of_memory",
    "training.workers",
)
"""Where a run is written, who is told of it, and how its batches are computed; up to rounding it is the same run."""
PLACES = ("data.files", "data.folders", "data.hub", "data.config", "data.revision", "data.splits", "model.path")
"""Where the data and the model lie; they are known by their content."""
SCHEDULED = ("schedule", "training.duration", "optimizer.learning_rate")
"""What makes the rates of a run; beside them, the schedules and peaks of parameter groups."""
LONGEST = 60
"""The most characters of a list that is shown whole."""


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns each dotted key of nested blocks with its value."""
    flat: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping):
            flat |= flatten(item, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = item
    return flat


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Returns each dotted key whose value differs, with both values; None where absent."""
    keys = [*one, *(key for key in other if key not in one)]
    return {key: (one.get(key), other.get(key)) for key in keys if one.get(key) != other.get(key)}


def is_among(key: str, keys: Iterable[str]) -> bool:
    """Returns whether `key` is one of `keys`, or within one of them."""
    return any(key == each or key.startswith(f"{each}.") for each in keys)


def is_scheduled(key: str) -> bool:
    """Returns whether `key` is one of those that make the rates."""
    block, _, rest = key.partition(".")
    own = rest.partition(".")[2] if block == "groups" else ""
    return is_among(key, SCHEDULED) or is_among(own, ("schedule", "learning_rate"))


def brief(value: Any) -> str:
    """Returns a setting's value in few words: of a long list, how long it is, and a sign that tells it from others."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if not isinstance(value, list) or len(str(value)) <= LONGEST:
        return str(value)
    return f"[{len(value)} items, {hashlib.sha256(json.dumps(value).encode()).hexdigest()[:4]}]"
