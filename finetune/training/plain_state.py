"""State as plain values and tensors in two files, a JSON and a safetensors file: what is read back runs no code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save_file


def write_state(folder: Path, name: str, state: Any) -> None:
    """Writes `state`, of dicts, lists, tuples, numbers, texts, None, tensors and NumPy arrays, as NAME.* in `folder`.

    Raises TypeError for anything else in it.
    """
    tensors: dict[str, torch.Tensor] = {}
    text = json.dumps(_plain(state, tensors))
    (folder / f"{name}.json").write_text(text, encoding="utf-8")
    save_file(tensors, folder / f"{name}.safetensors")


def read_state(folder: Path, name: str) -> Any:
    """Returns what `write_state` was given; tensors are on the CPU."""
    tensors = read_tensors(folder / f"{name}.safetensors")
    return _rebuilt(json.loads((folder / f"{name}.json").read_text(encoding="utf-8")), tensors)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Returns the tensors of a safetensors file, on the CPU.

    They are read, not mapped into memory: a disk that fails is then an OSError, and doesn't kill the process.
    """
    return load(path.read_bytes())


def _plain(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [_plain(item, tensors) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [_plain(item, tensors) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[_plain(key, tensors), _plain(item, tensors)] for key, item in value.items()]}
    if isinstance(value, np.ndarray):
        return {"array": _kept(torch.from_numpy(value.astype(_signed(value.dtype))), tensors), "type": str(value.dtype)}
    if isinstance(value, torch.Tensor):
        return {"tensor": _kept(value, tensors)}
    raise TypeError(f"{type(value).__name__} is neither a plain value nor a tensor")


def _kept(tensor: torch.Tensor, tensors: dict[str, torch.Tensor]) -> str:
    name = str(len(tensors))
    tensors[name] = tensor.detach().cpu().contiguous()
    return name


def _signed(kind: np.dtype[Any]) -> np.dtype[Any]:
    """Returns an integer type of the size that every version of torch has."""
    return np.dtype(f"i{kind.itemsize}") if kind.kind == "u" else kind


def _rebuilt(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, list):
        return [_rebuilt(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if "tuple" in value:
        return tuple(_rebuilt(item, tensors) for item in value["tuple"])
    if "dict" in value:
        return {_rebuilt(key, tensors): _rebuilt(item, tensors) for key, item in value["dict"]}
    if "array" in value:
        return tensors[value["array"]].numpy().astype(value["type"])
    return tensors[value["tensor"]]
