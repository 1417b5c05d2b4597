"""How the passes of a model are executed: one kernel after the other, compiled, or as CUDA graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finetune.errors import DeviceError
from finetune.training.adapters import check_adapter
from finetune.training.parallelism import check_parallelism

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from finetune.recipe import Recipe
    from finetune.training.layout import Layout
    from finetune.training.precision import Format

ATTENTION_DROPOUTS = ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop", "attn_dropout")
MOST_TOKENS = 128


def check_execution(recipe: Recipe, layout: Layout) -> None:
    """Raises DeviceError where the recipe asks for what can't be had on this machine, or not together.

    And SettingError for an adapter without what makes one.
    """
    check_adapter(recipe.adapter)
    check_parallelism(recipe, layout)
    training, device = recipe.training, layout.device.type
    if training.fast_dropout and device != "cpu":
        raise DeviceError(f"training.fast_dropout: is for CPUs, and this run is on {device}: leave it out")
    if training.cuda_graphs:
        _check_graphs(recipe, layout)


def _check_graphs(recipe: Recipe, layout: Layout) -> None:
    device, processes = layout.device.type, layout.processes
    for fails, why in (
        (device != "cuda", f"needs an NVIDIA GPU, and this run is on {device}: leave it out"),
        (processes > 1, f"is for one process, and there are {processes}: launch one, or leave it out"),
        (layout.accumulation > 1, "can't add up the gradients of micro-batches: leave out micro_batch_size, or this"),
        (
            recipe.training.on_out_of_memory == "halve",
            "can't be had with on_out_of_memory: halve; leave out one of them",
        ),
    ):
        if fails:
            raise DeviceError(f"training.cuda_graphs: {why}")


def prepare_execution(model: PreTrainedModel, recipe: Recipe, *, device: torch.device, precision: Format) -> None:
    """Has `model`, before it is wrapped or moved, executed on `device` as the recipe asks for, or faster."""
    training = recipe.training
    if training.fast_dropout:
        from finetune.training.dropout import use_fast_dropout

        use_fast_dropout(model)
    elif device.type == "cpu" and precision == "bf16" and recipe.task.longest is not None:
        use_plain_attention(model, tokens=recipe.task.longest)
    if training.compile:
        from finetune.training.compiling import compile_blocks

        compile_blocks(model)
    if training.cuda_graphs:
        from finetune.training.graphs import use_graphs

        use_graphs(model)


def use_plain_attention(model: PreTrainedModel, *, tokens: int) -> None:
    """Has attention made of matrix products where torch's own kernel is slower: in bf16, short and without dropout.

    That kernel's backward pass took 4.8 times as long for 32 tokens on a CPU with AMX, 2.6 times for 128, and as long
    for 256. With dropout torch makes it of matrix products anyway.
    """
    config: Any = model.config
    dropouts = [getattr(config, name) for name in ATTENTION_DROPOUTS if hasattr(config, name)]
    if dropouts and not any(dropouts) and tokens <= MOST_TOKENS and config._attn_implementation == "sdpa":
        model.set_attn_implementation("eager")
