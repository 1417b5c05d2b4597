"""A model whose layers are set apart: some start at random, some aren't trained, some not yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from finetune.errors import SettingError
from finetune.training.layers import (
    LAYERS,
    Anatomy,
    LayerGroup,
    anatomy_of,
    check_blocks,
    frozen_names,
    group_of_each,
    layer_groups,
    reinitialised_names,
)
from finetune.training.parameter_groups import NO_DECAY, parameter_groups
from finetune.training.random_state import preserved_random_state

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from finetune.recipe import Recipe
    from finetune.schedules import Run

REINITIALISING = 0x1A7
"""Keeps the drawing of weights apart from everything else that is drawn by the same seed."""


def anatomy_of_model(model: torch.nn.Module) -> Anatomy:
    """Returns where each of the model's parameters is."""
    return anatomy_of((name for name, _ in model.named_parameters()), body=str(getattr(model, "base_model_prefix", "")))


def prepare_layers(model: PreTrainedModel, recipe: Recipe) -> tuple[str, ...]:
    """Does to `model`, as it was loaded, what `layers` of `recipe` asks for; returns the names that start at random.

    Parameters that are frozen require no gradient. Raises SettingError for what the model hasn't.
    """
    settings = recipe.layers
    if settings is None:
        return ()
    anatomy = anatomy_of_model(model)
    check_blocks(settings, anatomy.blocks)
    frozen = set() if settings.freeze is None else frozen_names(settings, anatomy)
    random = reinitialised_names(settings, anatomy)
    if frozen & random:
        raise SettingError(
            f"{LAYERS}.reinitialise",
            f"would have {min(frozen & random)} start at random, and freeze leaves it so: freeze less, or lower it",
        )
    if random:
        _reinitialise(model, random, seed=recipe.training.seed)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
    return tuple(sorted(random))


def _reinitialise(model: PreTrainedModel, names: set[str], *, seed: int) -> None:
    """Draws the parameters called `names` as the model itself does, by `seed`; the random state stays as it is."""
    initialise: Any = model._init_weights
    with preserved_random_state(), torch.no_grad():
        torch.manual_seed(int(np.random.SeedSequence([seed, REINITIALISING]).generate_state(1)[0]))
        for module in _whole_modules(model, names):
            for parameter in module.parameters():
                parameter._is_hf_initialized = False  # type: ignore[attr-defined] # pretrained ones are passed over
            module.apply(initialise)


def _whole_modules(module: torch.nn.Module, names: set[str], prefix: str = "") -> list[torch.nn.Module]:
    """Returns the largest modules all of whose parameters are called one of `names`."""
    own = [f"{prefix}{name}" for name, _ in module.named_parameters()]
    if own and names.issuperset(own):
        return [module]
    return [
        whole for name, child in module.named_children() for whole in _whole_modules(child, names, f"{prefix}{name}.")
    ]


def groups_of_model(model: torch.nn.Module, recipe: Recipe, run: Run) -> dict[str, LayerGroup]:
    """Returns the group of each parameter that `layers` of `recipe` gives a rate of its own, by name."""
    if recipe.layers is None or not recipe.layers.sets_rates:
        return {}
    anatomy = anatomy_of_model(model)
    return group_of_each(layer_groups(recipe, run, blocks=anatomy.blocks), anatomy)


def check_groups(model: torch.nn.Module, recipe: Recipe, run: Run) -> None:
    """Raises SettingError where the groups of `recipe` can't be made of `model`, or the first update trains none."""
    layers = groups_of_model(model, recipe, run)
    groups = parameter_groups(model, weight_decay=0.0, decayed=(), own=recipe.groups, layers=layers)
    late = {layer.name for layer in layers.values() if layer.start}
    if all(group["name"].removesuffix(f".{NO_DECAY}") in late for group in groups):
        raise SettingError(
            f"{LAYERS}.unfreeze", "begins with the head, which freeze has no part of trained: leave out one of them"
        )


class GradualUnfreezing(TrainerCallback):
    """Has gradients computed for the parameters of a group only from the update on that its rate starts at.

    Without one a parameter has no part in the norm of the gradient, and no optimizer touches it, neither by momentum
    nor by weight decay. Updates are counted by the scheduler, so that rates and gradients can't part.
    """

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        scheduler = kwargs["lr_scheduler"]
        for group in kwargs["optimizer"].param_groups:
            is_trained = scheduler.last_epoch >= scheduler.starts.get(group["name"], 0)
            for parameter in group["params"]:
                if parameter.requires_grad != is_trained:
                    parameter.requires_grad_(is_trained)
