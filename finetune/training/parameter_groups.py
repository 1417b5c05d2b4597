"""Which parameters an optimizer updates together, and how."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch


def decay_groups(model: torch.nn.Module, *, weight_decay: float, decayed: Collection[str]) -> list[dict[str, Any]]:
    """Returns the groups "decay" and "no_decay" of the trainable parameters, empty ones left out.

    `decayed`: the names of the parameters that `weight_decay` applies to: all but biases and the weights of norms,
    which set a scale that decay would only distort.
    """
    trainable = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups = [
        {"name": "decay", "params": [p for name, p in trainable if name in decayed], "weight_decay": weight_decay},
        {"name": "no_decay", "params": [p for name, p in trainable if name not in decayed], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
