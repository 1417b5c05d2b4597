"""Which parameters an optimizer updates together, and how."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import torch

from finetune.errors import SettingError
from finetune.training.adapters import LORA_B

if TYPE_CHECKING:
    from finetune.recipe.schema import ParameterGroup
    from finetune.training.layers import LayerGroup

NO_DECAY = "no_decay"


def parameter_groups(
    model: torch.nn.Module,
    *,
    weight_decay: float,
    decayed: Collection[str],
    own: Mapping[str, ParameterGroup] | None = None,
    layers: Mapping[str, LayerGroup] | None = None,
) -> list[dict[str, Any]]:
    """Returns the groups "decay" and "no_decay" of the trainable parameters, empty ones left out.

    `decayed`: the names of the parameters that `weight_decay` applies to: all but biases and the weights of norms,
    which set a scale that decay would only distort. `own`: groups by name; each takes the parameters that none before
    it has taken, and is split in the same way into NAME and NAME.no_decay. `layers`: the group, split so too, of each
    parameter that has one and that none of `own` has taken. Raises SettingError for one of `own` that takes none.
    """
    left = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    groups: list[dict[str, Any]] = []
    for group, settings in (own or {}).items():
        taken = {name: left.pop(name) for name in list(left) if re.search(settings.parameters, name)}
        if not taken:
            some = ", ".join([*left][-3:])
            raise SettingError(
                f"groups.{group}.parameters", f'"{settings.parameters}" is in no name that is left, such as {some}'
            )
        peak = {} if settings.learning_rate is None else {"lr": settings.learning_rate}
        groups += [{**each, **peak} for each in _split(group, f"{group}.{NO_DECAY}", taken, weight_decay, decayed)]
    for layer in dict.fromkeys((layers or {}).values()):
        taken = {name: left.pop(name) for name in list(left) if (layers or {}).get(name) == layer}
        split = _split(layer.name, f"{layer.name}.{NO_DECAY}", taken, weight_decay, decayed)
        groups += [{**each, "lr": layer.peak} for each in split]
    return groups + _split("decay", NO_DECAY, left, weight_decay, decayed)


def base_of(group: str) -> str:
    """Returns the name that a recipe has for a group of the optimizer, which may be a part of what the recipe names."""
    for part in (f".{LORA_B}", f".{NO_DECAY}"):
        group = group.removesuffix(part)
    return group


def _split(
    name: str, rest: str, parameters: Mapping[str, torch.nn.Parameter], weight_decay: float, decayed: Collection[str]
) -> list[dict[str, Any]]:
    groups = [
        {"name": name, "params": [p for key, p in parameters.items() if key in decayed], "weight_decay": weight_decay},
        {"name": rest, "params": [p for key, p in parameters.items() if key not in decayed], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
