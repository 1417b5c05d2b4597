"""Models whose repeated blocks are compiled: the fused kernels of the whole at the cost of compiling one block."""

from __future__ import annotations

import torch


def blocks(model: torch.nn.Module) -> list[torch.nn.Module]:
    """Returns the blocks that a model repeats, such as a transformer's layers; the model itself where it has none."""
    repeated = [
        block
        for module in model.modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) > 1 and len({*map(type, module)}) == 1
        for block in module
    ]
    within = {inner for block in repeated for inner in block.modules() if inner is not block}
    return [block for block in repeated if block not in within] or [model]


def compile_blocks(model: torch.nn.Module) -> None:
    """Has each block compiled when it is first called, once for all shapes of batches (torch.compile).

    All blocks are of one class and share what is compiled. Names of parameters stay as they are.
    """
    for block in blocks(model):
        block.compile(dynamic=True)
