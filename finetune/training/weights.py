"""The weights of a model on their way to a folder and back; no pickle."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from finetune.errors import RecordError
from finetune.tasks.pretrained import quiet_transformers
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
            trainer.accelerator.unwrap_model(trainer.model).save_pretrained(aside, state_dict=state)
            processor.save_pretrained(aside)

    replace_folder(folder, write)


def load_weights(trainer: ScheduledTrainer, folder: Path) -> None:
    """Puts the weights in `folder` into the trainer's model; raises RecordError where they don't fit."""
    from finetune.training.plain_state import read_tensors

    model = trainer.accelerator.unwrap_model(trainer.model)
    files = [path for path in sorted(folder.glob("*.safetensors")) if path.name.startswith("model")]
    try:
        state = {name: tensor for path in files for name, tensor in read_tensors(path).items()}
    except (OSError, SafetensorError) as error:
        raise RecordError(f"{folder}: can't be read: {error}") from error
    missing, unexpected = model.load_state_dict(state, strict=False)
    tied = set(getattr(model, "all_tied_weights_keys", None) or {})
    if unexpected or set(missing) - tied:
        raise RecordError(f"{folder}: its weights don't fit the model that was trained; was it altered?")


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


def _link(source: Path, target: Path) -> None:
    """Gives a file another name, or copies it where the file system can't."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
