"""The weights of a model on their way to a folder and back; no pickle."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from finetune.errors import RecordError
from finetune.tasks.pretrained import quiet_transformers
from finetune.training.adapters import ADAPTER_WEIGHTS, merged_state, trained_names, write_adapter
from finetune.training.random_state import preserved_random_state
from finetune.training.shards import as_shards_of, forget_gathered
from finetune.training.whole_folders import MANIFEST, flush, replace_folder

if TYPE_CHECKING:
    from finetune.training.trainer import ScheduledTrainer


def save_model(trainer: ScheduledTrainer, folder: Path) -> None:
    """Writes the model and its processor to `folder`, in place of what was there; every process calls it."""
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    processor: Any = trainer.processing_class
    if not trainer.is_world_process_zero():
        return

    def write(aside: Path) -> None:
        with quiet_transformers():
            write_weights(trainer, state, aside)
            processor.save_pretrained(aside)

    replace_folder(folder, write)


def write_weights(trainer: ScheduledTrainer, state: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Writes what is trained of `state`, that of the trainer's whole model, to `folder`, and what it belongs to."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    if trainer.adapter is not None:
        write_adapter(model, state, folder)
    else:
        model.save_pretrained(folder, state_dict=state)


def load_weights(trainer: ScheduledTrainer, folder: Path) -> None:
    """Puts the weights in `folder` into the trainer's model; raises RecordError where they don't fit."""
    from finetune.training.plain_state import read_tensors

    model = trainer.accelerator.unwrap_model(trainer.model)
    whole = model.state_dict()
    if trainer.adapter is not None:
        names = {written: name for name, written in trained_names(model).items()}
        files = [folder / ADAPTER_WEIGHTS]
    else:
        names = {name: name for name in whole}
        files = [path for path in sorted(folder.glob("*.safetensors")) if path.name.startswith("model")]
    try:
        read: Mapping[str, torch.Tensor] = {
            name: tensor for path in files for name, tensor in read_tensors(path).items()
        }
    except (OSError, SafetensorError) as error:
        raise RecordError(f"{folder}: can't be read: {error}") from error
    if trainer.adapter is None and read.keys() - names.keys():
        read = _under_own_names(model, read)
    state = {names.get(name, name): tensor for name, tensor in read.items()}
    missing = set(names.values()) - state.keys() - set(getattr(model, "all_tied_weights_keys", None) or {})
    if missing or read.keys() - names.keys() or any(state[name].shape != whole[name].shape for name in state):
        raise RecordError(f"{folder}: its weights don't fit the model that was trained; was it altered?")
    model.load_state_dict({name: as_shards_of(tensor, whole[name]) for name, tensor in state.items()}, strict=False)
    forget_gathered(model)


def _under_own_names(model: Any, tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """Returns the tensors that `save_pretrained` wrote for `model` under the names that it has for them.

    transformers 5 writes those of some models, such as ViT, as its earlier versions called or even arranged them. What
    isn't of this model is returned as it is.
    """
    with quiet_transformers(), preserved_random_state():
        made, report = type(model).from_pretrained(
            None,
            config=copy.deepcopy(model.config),
            state_dict=dict(tensors),
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    if report["missing_keys"] or report["unexpected_keys"] or report["mismatched_keys"]:
        return tensors
    renamed: Mapping[str, torch.Tensor] = made.state_dict()
    return renamed


def publish_model(kept: Path, folder: Path) -> None:
    """Makes `folder` of the files of the model `kept`, in place of what was there; `kept` stays until it is deleted."""

    def write(aside: Path) -> None:
        for path in kept.iterdir():
            if path.name != MANIFEST:
                _link(path, aside / path.name)
                flush(aside / path.name)
        flush(aside)

    replace_folder(folder, write)
    flush(folder.parent)


def publish_merged(trainer: ScheduledTrainer, folder: Path) -> None:
    """Makes `folder` an ordinary model, of the trainer's with its adapter merged; every process calls it."""
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    processor: Any = trainer.processing_class
    if not trainer.is_world_process_zero():
        return

    def write(aside: Path) -> None:
        with quiet_transformers():
            model.save_pretrained(aside, state_dict=merged_state(model, state))
            processor.save_pretrained(aside)
        for path in (*aside.iterdir(), aside):
            flush(path)

    replace_folder(folder, write)
    flush(folder.parent)


def _link(source: Path, target: Path) -> None:
    """Gives a file another name, or copies it where the file system can't."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
