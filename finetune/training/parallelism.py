"""How a model is spread over the processes of a run, a copy each or in shards by FSDP2, and what can't be had then."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch

from finetune.errors import DeviceError

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import TrainingArguments

    from finetune.recipe import Recipe
    from finetune.training.layout import Layout

Parallelism = Literal["copies", "fsdp2"]

_LIKE_COPIES = ("DP_REPLICATE", "DP_SHARD")
_PREFIX = "PARALLELISM_CONFIG_"


def parallelism_asked_for(environment: Mapping[str, str] = os.environ) -> Parallelism:
    """Returns what Accelerate's launcher hands on of its configuration; raises DeviceError for what can't be had."""
    if _is_on(environment, "ACCELERATE_USE_DEEPSPEED"):
        raise DeviceError(
            "DeepSpeed keeps the state of the optimizer in files of its own, which are pickles, and a run reads and "
            "writes none: launch with FSDP2, which shares out the same memory"
        )
    if _is_on(environment, "ACCELERATE_USE_MEGATRON_LM"):
        raise DeviceError("Megatron-LM trains models of its own making: launch with FSDP2 instead")
    _check_sizes(environment)
    if not _is_on(environment, "ACCELERATE_USE_FSDP"):
        return "copies"
    version = environment.get("FSDP_VERSION", "1")
    if version != "2":
        raise DeviceError(
            f"fsdp_version: {version} puts the parameters of many layers into one, so that the groups of the optimizer "
            "are lost; set fsdp_version: 2 under fsdp_config"
        )
    if _is_on(environment, "FSDP_CPU_RAM_EFFICIENT_LOADING"):
        raise DeviceError(
            "fsdp_cpu_ram_efficient_loading: every process reads the weights, by which it is known that all train the "
            "same; set it to false under fsdp_config"
        )
    return "fsdp2"


def _is_on(environment: Mapping[str, str], name: str) -> bool:
    return environment.get(name, "false").casefold() in ("1", "true", "yes", "on", "y", "t")


def _check_sizes(environment: Mapping[str, str]) -> None:
    """Raises DeviceError where several processes would have to be given the same examples."""
    if not _is_on(environment, "ACCELERATE_USE_PARALLELISM_CONFIG"):
        return
    for name, value in environment.items():
        dimension = name.removeprefix(_PREFIX).removesuffix("_SIZE")
        if name == f"{_PREFIX}{dimension}_SIZE" and value != "1" and dimension not in _LIKE_COPIES:
            raise DeviceError(
                f"parallelism_config_{dimension.casefold()}_size: {value} would have several processes work on the "
                "same examples, and a run shares out each batch over all of them: leave it out, or set it to 1"
            )


def check_parallelism(recipe: Recipe, layout: Layout) -> None:
    """Raises DeviceError where the recipe asks for what can't be had in shards."""
    if parallelism_asked_for() == "copies":
        return
    if "LOCAL_RANK" not in os.environ:
        raise DeviceError("FSDP2 was asked for without a launcher, and would be left out: use accelerate launch")
    for is_asked, setting, why in _in_shards(recipe):
        if is_asked:
            raise DeviceError(f"{setting}: can't be had with FSDP2, {why}: leave it out, or launch without FSDP2")


def _in_shards(recipe: Recipe) -> list[tuple[bool, str, str]]:
    training, layers = recipe.training, recipe.layers
    return [
        (
            recipe.optimizer.name == "adafactor",
            "optimizer.name: adafactor",
            "as it keeps means of whole rows and columns",
        ),
        (bool(training.cuda_graphs), "training.cuda_graphs", "which gathers weights on the way"),
        (
            layers is not None and layers.unfreeze is not None,
            "layers.unfreeze",
            "which settles at the start what is trained",
        ),
    ]


def let_accelerate_shard(arguments: TrainingArguments) -> None:
    """Has Accelerate, about to be set up with `arguments`, see to FSDP on CPUs too, where it passes it over.

    It looks at the kind of device (AcceleratorState in accelerate 1.15), although torch shards on any.
    """
    from accelerate.state import PartialState
    from accelerate.utils import DistributedType

    if arguments.device.type == "cpu":
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU


def settle_shards(accelerator: Accelerator, model: Any) -> None:
    """Has gradients added up in fp32, as they are without shards, and `model` cut into its own blocks.

    Raises DeviceError where nothing is to be sharded after all.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy
    from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy

    if not accelerator.is_fsdp2:
        raise DeviceError("FSDP2 was asked for, and the installed accelerate doesn't set it up here; see its versions")
    plugin = accelerator.state.fsdp_plugin
    if plugin.auto_wrap_policy is transformer_auto_wrap_policy and plugin.transformer_cls_names_to_wrap is None:
        plugin.transformer_cls_names_to_wrap = blocks_to_gather(model)
    if plugin.mixed_precision_policy is not None:
        plugin.mixed_precision_policy = MixedPrecisionPolicy(
            param_dtype=plugin.mixed_precision_policy.param_dtype,
            reduce_dtype=torch.float32,
            output_dtype=plugin.mixed_precision_policy.output_dtype,
        )


def unfuse(optimizer: torch.optim.Optimizer) -> None:
    """Has an update of SGD made step by step: torch 2.13 has no kernel for all of it at once for shards."""
    if isinstance(optimizer, torch.optim.SGD):
        for group in optimizer.param_groups:
            group["fused"] = None


def blocks_to_gather(model: Any) -> list[str]:
    """Returns the names of the classes of those of the model's blocks that are gathered one by one.

    Accelerate 1.15 cuts the embeddings by themselves and fails where a block that holds them was cut before, as
    transformers names one for BERT, RoBERTa, ViT and forty others, or where a block that it names isn't there.
    """
    named = set(getattr(model, "_no_split_modules", None) or ())
    embeddings = {id(each) for each in (model.get_input_embeddings(), model.get_output_embeddings())}
    found: dict[str, bool] = {}
    for module in model.modules():
        name = type(module).__name__
        if name in named:
            found[name] = found.get(name, True) and not any(id(inner) in embeddings for inner in module.modules())
    return sorted(name for name, is_apart in found.items() if is_apart)
