"""How the passes of a model are executed: one kernel after the other, compiled, or as CUDA graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finetune.errors import DeviceError

if TYPE_CHECKING:
    import torch

    from finetune.recipe import Recipe
    from finetune.training.layout import Layout


def check_execution(recipe: Recipe, layout: Layout) -> None:
    """Raises DeviceError where the recipe asks for what can't be had on this machine, or not together."""
    training = recipe.training
    if not training.cuda_graphs:
        return
    for fails, why in (
        (
            layout.device.type != "cuda",
            f"needs an NVIDIA GPU, and this run is on {layout.device.type}: leave it out",
        ),
        (layout.processes > 1, f"is for one process, and there are {layout.processes}: launch one, or leave it out"),
        (layout.accumulation > 1, "can't add up the gradients of micro-batches: leave out micro_batch_size, or this"),
        (training.on_out_of_memory == "halve", "can't be had with on_out_of_memory: halve; leave out one of them"),
    ):
        if fails:
            raise DeviceError(f"training.cuda_graphs: {why}")


def prepare_execution(model: torch.nn.Module, recipe: Recipe) -> None:
    """Has `model`, before it is wrapped or moved, executed as the recipe asks for."""
    training = recipe.training
    if training.compile:
        from finetune.training.compiling import compile_blocks

        compile_blocks(model)
    if training.cuda_graphs:
        from finetune.training.graphs import use_graphs

        use_graphs(model)
