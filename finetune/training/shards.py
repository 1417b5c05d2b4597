"""Tensors of which each process holds a shard, as FSDP2 has them: made whole, cut again, and read where they lie."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor


def local(tensor: torch.Tensor) -> torch.Tensor:
    """Returns what this process holds of `tensor`, which is all of it unless it is cut in shards."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def as_shards_of(whole: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Returns `whole`, which every process has, cut as `like` is; as it is where that isn't cut, or of another shape.

    Nothing is sent. What is cut already is returned as it is.
    """
    if isinstance(whole, DTensor) or not isinstance(like, DTensor) or whole.shape != like.shape:
        return whole
    there = whole.to(like.to_local().device)
    # A copy, as a view would keep the whole in memory.
    return distribute_tensor(there, like.device_mesh, like.placements, src_data_rank=None).clone()


def shards_put_together(own: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Returns the tensor of which every process holds `own`, where `like`, of the same shape, is cut in shards."""
    if not isinstance(like, DTensor):
        return own
    there = own.to(like.to_local().device)
    return DTensor.from_local(
        there, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )


def made_whole(value: Any, *, keep: bool) -> Any:
    """Returns nested dicts, lists and tuples with each tensor whole, on the CPU where it was cut in shards.

    Every process calls it, with the same value, and those that don't `keep` it get an empty tensor in place of each.
    """
    if isinstance(value, Mapping):
        return {key: made_whole(item, keep=keep) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(made_whole(item, keep=keep) for item in value)
    if isinstance(value, DTensor):
        whole = value.full_tensor().detach()
        return whole.cpu() if keep else torch.empty(0)
    return value


def optimizer_state_in_shards(state: Mapping[str, Any], groups: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the state of an optimizer, whole, with each tensor cut as the parameter that it belongs to.

    `groups`: those of the optimizer, in the order in which its state numbers their parameters.
    """
    parameters = [parameter for group in groups for parameter in group["params"]]
    cut = {
        number: {
            name: as_shards_of(item, parameters[number]) if isinstance(item, torch.Tensor) else item
            for name, item in each.items()
        }
        for number, each in state["state"].items()
    }
    return {**state, "state": cut}


def forget_gathered(model: torch.nn.Module) -> None:
    """Has the next pass gather the shards of `model` anew, as it must where they were written to since the last one.

    After a pass without gradients FSDP keeps whole what it needs first and last.
    """
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
