"""What a model from a stranger could have done on this machine: files read from elsewhere, pickles, code."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from finetune.errors import ModelError

INDEX = "model.safetensors.index.json"
NAMED_WEIGHTS = "transformers_weights"
KERNELS = ("attn_implementation", "experts_implementation")


def refuse_what_lies_elsewhere(folder: Path) -> None:
    """Raises ModelError where a file of a model folder is a link out of it, or its weights are no safetensors in it.

    What a tokenizer reads is copied into the run's own model, so a link could have any file published. The links
    between the snapshots and the blobs of the Hub's cache stay within the repository.
    """
    inside = Path(os.path.realpath(folder))
    if inside.parent.name == "snapshots":
        inside = inside.parent.parent
    for path in sorted(folder.rglob("*")):
        target = Path(os.path.realpath(path))
        if path.is_symlink() and not target.is_relative_to(inside):
            raise ModelError(f"{path}: is a link to {target}, out of the model's folder; put the file itself there")
    for name in _shards(folder / INDEX):
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ModelError(
                f"{folder / INDEX}: names weights in {name}; each must be a .safetensors file of the same folder "
                "(pickled weights aren't read)"
            )


def _shards(index: Path) -> set[str]:
    """Returns the names of the files that an index names; none where there is no index."""
    try:
        return {str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
    except FileNotFoundError:
        return set()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{index}: is no index of weights; download the model anew") from error


def refuse_code(config: Mapping[str, Any]) -> None:
    """Raises ModelError where a config.json, though of a model that transformers knows, has code or a pickle read."""
    weights = config.get(NAMED_WEIGHTS)
    if weights is not None and not str(weights).endswith(".safetensors"):
        raise ModelError(
            f"its config.json names {weights} as its weights ({NAMED_WEIGHTS}), which is no safetensors file"
        )
    kernel = next(_kernels(config), None)
    if kernel is not None:
        name, repository = kernel
        raise ModelError(
            f"its config.json has compiled code of {repository} run ({name}): pass --trust-remote-code if you trust it"
        )


def _kernels(settings: object, name: str = "") -> Iterator[tuple[str, str]]:
    """Yields each setting that asks for a kernel, which is named as its repository on the Hub is, and that name."""
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            own = str(key).strip("_").removesuffix("_internal")
            yield from _kernels(value, own if own in KERNELS else name)
    elif name and isinstance(settings, str) and "/" in settings:
        yield name, settings
