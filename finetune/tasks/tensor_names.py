"""The names of the tensors in a model's folder, without loading any."""

from __future__ import annotations

import json
from pathlib import Path

from finetune.errors import ModelError
from finetune.tasks.trust import INDEX


def tensor_names(folder: Path) -> list[str]:
    """Returns the names of the weights in `folder`; raises ModelError where they can't be read.

    They are those of the model that was saved, which may lack the prefix that a model with a head gives its body.
    """
    from safetensors import SafetensorError, safe_open

    whole, index = folder / "model.safetensors", folder / INDEX
    try:
        if whole.is_file():
            with safe_open(whole, framework="numpy") as file:
                return list(file.keys())
        return list(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        raise ModelError(f"{whole if whole.is_file() else index}: can't be read ({error})") from error
