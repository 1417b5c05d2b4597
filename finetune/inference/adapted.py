"""The model of a run that kept its adapter apart: the one that it was trained on, with the adapter put in."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from safetensors import SafetensorError

from finetune.errors import ModelError, RecordError
from finetune.evaluation.record import RECORD
from finetune.inference.finished import FinishedRun
from finetune.recipe import Recipe
from finetune.tasks.pretrained import Pretrained
from finetune.training.adapters import ADAPTER_WEIGHTS, add_adapter, trained_names
from finetune.training.plain_state import read_tensors
from finetune.training.recording import weights_fingerprint

if TYPE_CHECKING:
    import torch


def load_adapted(run: FinishedRun, *, trust_remote_code: bool) -> tuple[torch.nn.Module, Any]:
    """Returns the model that `run` began with, as its record has it, with the weights that it trained; its processor.

    Raises ModelError where that model can't be had any more, or isn't what it was, SettingError without PEFT, and
    RecordError where the adapter doesn't fit it.
    """
    recipe = _recipe_of(run)
    assert recipe.adapter is not None  # noqa: S101 - the run kept one
    source = Pretrained(
        str(recipe.model.path or recipe.model.hub),
        revision=run.record.identity.model.commit or recipe.model.revision,
        local=recipe.model.path is not None,
        trust_remote_code=trust_remote_code,
    )
    source.check()
    processor, seed = run.task.load_processor(source), recipe.training.seed
    loaded = run.task.load_model(source, classes=run.classes, processor=processor, seed=seed)
    add_adapter(loaded, recipe.adapter, seed=seed)
    if weights_fingerprint(loaded.model) != run.record.identity.model.initial_weights:
        raise ModelError(
            f"{source.location}: isn't the model that the adapter in {run.model} was trained on, so it would answer "
            "otherwise; put that back, or run the recipe again with adapter.merge=true"
        )
    _put_in(loaded.model, run)
    return loaded.model, processor


def _recipe_of(run: FinishedRun) -> Recipe:
    try:
        return Recipe.model_validate_json(json.dumps(run.record.recipe))
    except ValidationError as error:
        problem = error.errors()[0]["msg"]
        raise RecordError(
            f"{run.path / RECORD}: its recipe can't be read: {problem}; did another version write it?"
        ) from error


def _put_in(model: Any, run: FinishedRun) -> None:
    path, names = run.model / ADAPTER_WEIGHTS, {written: name for name, written in trained_names(model).items()}
    try:
        read = read_tensors(path)
    except (OSError, SafetensorError) as error:
        raise RecordError(f"{path}: can't be read: {error}") from error
    whole = model.state_dict()
    if read.keys() != names.keys() or any(read[each].shape != whole[name].shape for each, name in names.items()):
        raise RecordError(f"{path}: its weights don't fit the model that was trained; was it altered?")
    model.load_state_dict({names[each]: tensor for each, tensor in read.items()}, strict=False)
