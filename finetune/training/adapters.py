"""Adapters of PEFT within a pretrained model: put in, saved, and added up with the weights that they adapt.

They are put into the layers of the model as it is, which stays of its class, and each parameter keeps its name, but for
those of an adapted layer: LAYER.base_layer.weight, LAYER.lora_A.default.weight, LAYER.lora_B.default.weight and, with
DoRA, LAYER.lora_magnitude_vector.default.weight.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.errors import SettingError, did_you_mean, listed
from finetune.recipe.adapter import ALL_LINEAR
from finetune.tasks.model_folder import ADAPTER_CONFIG

if TYPE_CHECKING:
    import torch

    from finetune.recipe.adapter import Adapter
    from finetune.tasks.pretrained import LoadedModel

ADAPTER_WEIGHTS = "adapter_model.safetensors"
LORA_B = "lora_B"
NAME = "default"
DRAWING = 0xADA
"""Keeps the drawing of adapters apart from everything else that is drawn by the same seed."""

_PREFIX = "base_model.model."
_BASE = "base_layer."
_TASK_TYPES = {
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "ForQuestionAnswering": "QUESTION_ANS",
    "ForConditionalGeneration": "SEQ_2_SEQ_LM",
    "ForCausalLM": "CAUSAL_LM",
}


def check_adapter(adapter: Adapter | None) -> None:
    """Raises SettingError where an adapter is asked for and PEFT isn't installed."""
    if adapter is not None and find_spec("peft") is None:
        raise SettingError("adapter", "peft isn't installed: pip install 'finetune-schedules[adapters]'")


def add_adapter(loaded: LoadedModel, adapter: Adapter, *, seed: int) -> None:
    """Puts `adapter`, drawn by `seed`, into the model `loaded`, and freezes all but it, the head and new tensors.

    The random state is afterwards what it was. Raises SettingError where a target is in no name of a linear layer, or
    the rank is more than a layer has inputs or outputs.
    """
    import numpy as np
    import torch
    from peft import inject_adapter_in_model

    from finetune.training.random_state import preserved_random_state

    check_adapter(adapter)
    model: Any = loaded.model
    body, new = f"{model.base_model_prefix}.", set(loaded.new_tensors)
    whole = [name for name, _ in model.named_parameters() if not name.startswith(body) or name in new]
    targets = _targets(model, adapter, trained=whole)
    configuration = _configuration(model, adapter, targets)
    with preserved_random_state(), warnings.catch_warnings():
        # Where layers of both kinds are adapted it says of one of them that it has seen to it.
        warnings.filterwarnings("ignore", "fan_in_fan_out is set to")
        torch.manual_seed(int(np.random.SeedSequence([seed, DRAWING]).generate_state(1)[0]))
        inject_adapter_in_model(configuration, model, adapter_name=NAME)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad or name in whole)
    # What a reader of the files needs to know, and PEFT would act upon here.
    configuration.base_model_name_or_path = model.name_or_path
    configuration.revision = loaded.commit
    configuration.inference_mode = True
    configuration.modules_to_save = sorted({_module_of(name, body) for name in whole}) or None


def _configuration(model: Any, adapter: Adapter, targets: Sequence[str]) -> Any:
    from peft import LoraConfig
    from transformers.pytorch_utils import Conv1D

    kind = type(model).__name__
    return LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,  # type: ignore[arg-type] # any number will do
        lora_dropout=adapter.dropout,
        target_modules=list(targets),
        use_rslora=adapter.rslora,
        use_dora=adapter.dora,
        fan_in_fan_out=any(isinstance(model.get_submodule(name), Conv1D) for name in targets),
        task_type=next((task for ending, task in _TASK_TYPES.items() if kind.endswith(ending)), None),
    )


def _module_of(parameter: str, body: str) -> str:
    """Returns the module that PEFT has to keep whole for `parameter`: a part of the head, or a layer of the body."""
    return parameter.rpartition(".")[0] if parameter.startswith(body) else parameter.partition(".")[0]


def _targets(model: Any, adapter: Adapter, *, trained: Collection[str]) -> list[str]:
    """Returns the names of the layers to adapt, those whose parameters are `trained` themselves left out."""
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

    body = f"{model.base_model_prefix}."
    within = {name: sizes for name, sizes in _linear_layers(model) if name.startswith(body)}
    layers = {name: sizes for name, sizes in within.items() if f"{name}.weight" not in trained}
    known = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(model.config.model_type)
    asked = adapter.targets or (tuple(known) if isinstance(known, list) else (ALL_LINEAR,))
    endings = dict.fromkeys(name.rpartition(".")[2] for name in layers)
    for target in asked:
        if not any(_is_meant(name, target) for name in layers):
            raise SettingError(
                "adapter.targets",
                f"{listed([target])} is in no name of a linear layer of {type(model).__name__} that isn't trained "
                f"anyway{did_you_mean(target, endings)}; there are {listed(endings)}; or give all-linear",
            )
    meant = [name for name in layers if any(_is_meant(name, target) for target in asked)]
    narrow = next((name for name in meant if adapter.rank > min(layers[name])), None)
    if narrow is not None:
        inputs, outputs = layers[narrow]
        raise SettingError(
            "adapter.rank",
            f"{adapter.rank} is more than {narrow} can have, which has {inputs} inputs and {outputs} outputs: give "
            f"{min(layers[narrow])} or less",
        )
    return meant


def _is_meant(name: str, target: str) -> bool:
    return target in (ALL_LINEAR, name) or name.endswith(f".{target}")


def _linear_layers(model: torch.nn.Module) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yields the name of each linear layer, and how many inputs and outputs it has."""
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D

    for name, module in model.named_modules():
        if isinstance(module, Linear):
            yield name, (module.in_features, module.out_features)
        elif isinstance(module, Conv1D):
            yield name, (module.nx, module.nf)


def trained_names(model: torch.nn.Module) -> dict[str, str]:
    """Returns each name of a parameter that is trained with the one that it has in PEFT's files, in their order."""
    return {name: _name_in_file(name) for name, parameter in model.named_parameters() if parameter.requires_grad}


def _name_in_file(name: str) -> str:
    layer, found, rest = name.rpartition(f".{NAME}.")
    if not found:
        return f"{_PREFIX}{name}"
    return f"{_PREFIX}{layer}" if layer.endswith(".lora_magnitude_vector") else f"{_PREFIX}{layer}.{rest}"


def write_adapter(model: Any, state: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Writes what is trained of `state`, the whole state of `model`, and PEFT's configuration into `folder`."""
    from safetensors.torch import save_file

    tensors = {
        written: state[name].detach().cpu().contiguous().clone() for name, written in trained_names(model).items()
    }
    settings = {key: _plain(value) for key, value in model.peft_config[NAME].to_dict().items()}
    text = json.dumps(settings, indent=2, sort_keys=True)
    (folder / ADAPTER_CONFIG).write_text(f"{text}\n", encoding="utf-8")
    save_file(tensors, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set) else value


def merged_state(model: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns the state of the ordinary model whose layers compute what those of `model`, with adapters, do.

    W + s·B·A for each adapted weight W; with DoRA each row of it is scaled to the length that was learned.
    """
    merged = {name.replace(f".{_BASE}", "."): tensor for name, tensor in state.items() if f".{NAME}." not in name}
    for layer in {name.partition(f".{LORA_B}.")[0] for name in state if f".{LORA_B}." in name}:
        module: Any = model.get_submodule(layer)
        a, b = (state[f"{layer}.{each}.{NAME}.weight"] for each in ("lora_A", LORA_B))
        weight = merged[f"{layer}.weight"]
        added = (weight.T if module.fan_in_fan_out else weight) + module.scaling[NAME] * (b @ a)
        lengths = state.get(f"{layer}.lora_magnitude_vector.{NAME}.weight")
        if lengths is not None:
            added = added * (lengths / added.norm(dim=1))[:, None]
        merged[f"{layer}.weight"] = (added.T if module.fan_in_fan_out else added).contiguous()
    return merged


def is_length(name: str) -> bool:
    """Whether a parameter is the lengths that DoRA learns, which weight decay would only distort."""
    return ".lora_magnitude_vector." in name


def with_b_rate(
    groups: Sequence[Mapping[str, Any]], model: torch.nn.Module, *, ratio: float, peak: float
) -> list[dict[str, Any]]:
    """Returns parameter groups in which each of the matrices B has a group GROUP.lora_B, at `ratio` times the peak.

    `peak`: of the groups that have none of their own.
    """
    matrices = {id(parameter) for name, parameter in model.named_parameters() if f".{LORA_B}." in name}
    split: list[dict[str, Any]] = []
    for group in groups:
        b = [parameter for parameter in group["params"] if id(parameter) in matrices]
        rest = [parameter for parameter in group["params"] if id(parameter) not in matrices]
        rate = b_peak(group.get("lr", peak), ratio)
        apart = {**group, "name": f"{group['name']}.{LORA_B}", "params": b, "lr": rate}
        split += [each for each in ({**group, "params": rest}, apart) if each["params"]]
    return split


def b_peak(peak: float, ratio: float) -> float:
    """Returns the peak rate of the matrices B in a group whose own is `peak`."""
    return peak * ratio
