"""An update of a model, and an evaluation, made on torch's meta device: what they hold in memory at once, counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from accelerate.utils.operations import convert_to_fp32

from finetune.errors import ModelError
from finetune.estimates.allocations import Allocations, Series, size_of
from finetune.estimates.kernels import Device, Kernels
from finetune.optimizers import OptimizerSettings
from finetune.training.parallelism import blocks_to_gather

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
FUSED = frozenset({"adamw", "adam", "sgd"})
"""The optimizers whose updates GPUs, and CPUs, make in place, by one kernel."""
AT_ONCE = frozenset({"rmsprop", "adagrad"})
"""Those whose updates GPUs make of all parameters at once, with as many numbers beside them."""

Batch = Mapping[str, torch.Tensor]
Phase = Literal["forward and backward pass", "optimizer", "evaluation"]


@dataclass(frozen=True)
class Setting:
    """How a model is trained, as far as memory is concerned.

    `batch`: one example, padded, on any device, with its "labels"; `padded`: whether batches have padding. `loss`: of
    the outputs, the labels, and the number that it is divided by; `keep`: what an evaluation keeps of a batch.
    `averaged`: whether an exponential average is kept; `restored`: whether weights are set aside in evaluations;
    `recomputed`: whether each block of a transformer is computed anew in the backward pass.
    """

    batch: Batch
    padded: bool
    loss: Callable[[Any, torch.Tensor, int], torch.Tensor]
    keep: Callable[[Any, torch.Tensor], Any]
    optimizer: OptimizerSettings
    precision: Literal["fp32", "bf16", "fp16"]
    device: Device = "cuda"
    averaged: bool = False
    restored: bool = False
    recomputed: bool = False

    @property
    def half(self) -> torch.dtype | None:
        """The format of products of matrices, where it isn't that of the weights."""
        return HALVES.get(self.precision)


@dataclass(frozen=True)
class Usage:
    """What training holds on one device that has all of it, in bytes but for the numbers of parameters.

    `weights`: with buffers; `gradients`: of the parameters that get one; `states`: the optimizer's; `averages`: of the
    weights; `copies`: of weights in half precision; `activations`: all else that the passes hold at once, which is the
    batch, what the backward pass needs, and what is in between. `at_peak`: the same three at the time when they are
    most together. `stepping`: what the optimizer holds besides; `evaluating`: what an evaluation holds besides what is
    kept and copies of weights; `aside`: weights that give way to their average in evaluations. `units`: the numbers of
    parameters of each block, and last of all that is in none; `accumulated`: whether an update has several
    micro-batches.
    """

    parameters: int
    trained: int
    weights: int
    gradients: int
    states: int
    averages: int
    copies: int
    activations: int
    at_peak: Mapping[Literal["gradients", "copies", "activations"], int]
    stepping: int
    evaluating: int
    aside: int
    units: tuple[int, ...] = field(repr=False)
    accumulated: bool = False

    @property
    def kept(self) -> int:
        """What is there between two updates."""
        return self.weights + self.states + self.averages

    @property
    def phases(self) -> dict[Phase, int]:
        """The most that each part of a run holds at once."""
        return {
            "forward and backward pass": self.kept + sum(self.at_peak.values()),
            "optimizer": self.kept + self.gradients + self.stepping,
            "evaluation": self.kept + self.copies + self.evaluating + self.aside,
        }


def measure(
    model: torch.nn.Module, setting: Setting, *, examples: int, accumulated: bool = False, evaluated: int = 0
) -> Usage:
    """Returns what training `model`, which lies on the meta device, holds with `examples` at a time.

    `accumulated`: whether an update has several micro-batches; `evaluated`: how many examples an evaluation takes at a
    time, none where it is left out. Raises ModelError for a model whose passes depend on what its tensors hold.
    """
    with _made_on_meta(model):
        evaluating = _evaluate(model, setting, examples=evaluated) if evaluated else 0
        return _measured(model, setting, examples=examples, accumulated=accumulated, evaluating=evaluating)


@contextmanager
def _made_on_meta(model: torch.nn.Module) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, NotImplementedError) as error:
        problem = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"{type(model).__name__}: its memory can't be estimated, as its passes can't be made without its weights "
            f"({problem}); check it without --devices and --memory, and try a few updates on a device"
        ) from error


def _measured(model: torch.nn.Module, setting: Setting, *, examples: int, accumulated: bool, evaluating: int) -> Usage:
    parameters = list(model.parameters())
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    weights = [*parameters, *model.buffers()]
    model.zero_grad()
    allocations = Allocations(weights)
    copies: set[int] = set()

    def note_copy(copy: torch.Tensor) -> None:
        copies.update(allocations.numbers([copy]))

    model.train()
    for _ in range(1 + accumulated):
        _pass(model, setting, allocations, note_copy, examples=examples)
    graded = [parameter for parameter in trained if parameter.grad is not None]
    gradients = size_of(parameter.grad for parameter in graded if parameter.grad is not None)
    of_gradients = allocations.numbers(parameter.grad for parameter in graded if parameter.grad is not None)
    series = {
        "gradients": allocations.live(only=of_gradients),
        "copies": allocations.live(only=copies),
        "all": allocations.live(),
    }
    rest: Series = series["all"] - series["gradients"] - series["copies"]
    peak = int(series["all"].argmax())
    states, stepping = _step(graded, setting)
    model.zero_grad()
    changing = size_of([*trained, *(each for each in model.buffers() if each.is_floating_point())])
    return Usage(
        parameters=sum(parameter.numel() for parameter in parameters),
        trained=sum(parameter.numel() for parameter in trained),
        weights=size_of(weights),
        gradients=gradients,
        states=states,
        averages=changing if setting.averaged else 0,
        copies=int(series["copies"].max()),
        activations=int(rest.max()),
        at_peak={
            "gradients": int(series["gradients"][peak]),
            "copies": int(series["copies"][peak]),
            "activations": int(rest[peak]),
        },
        stepping=stepping,
        evaluating=evaluating,
        aside=changing if setting.restored else 0,
        units=tuple(_units(model)),
        accumulated=accumulated,
    )


def _pass(
    model: torch.nn.Module,
    setting: Setting,
    allocations: Allocations,
    note_copy: Callable[[torch.Tensor], None],
    *,
    examples: int,
) -> None:
    on_device = partial(Kernels, setting.device, half=setting.half, padded=setting.padded, note_copy=note_copy)
    with allocations:
        inputs = _on_meta(setting.batch, examples)
        labels = inputs.pop("labels")
        if setting.recomputed:
            anew = partial(on_device, once=True)
            checkpointing: Any = model
            keywords = {"use_reentrant": False, "context_fn": lambda: (nullcontext(), anew())}
            checkpointing.activation_checkpointing_enable(keywords)
        with on_device():
            loss = setting.loss(_outputs(model, inputs, setting), labels, examples)
        loss.backward()  # type: ignore[no-untyped-call]


def _outputs(model: torch.nn.Module, inputs: dict[str, torch.Tensor], setting: Setting) -> Any:
    outputs = model(**inputs)
    return outputs if setting.half is None else convert_to_fp32(outputs)


def _on_meta(batch: Batch, examples: int) -> dict[str, torch.Tensor]:
    return {
        name: torch.empty((examples, *tensor.shape[1:]), dtype=tensor.dtype, device="meta")
        for name, tensor in batch.items()
    }


def _step(graded: list[torch.nn.Parameter], setting: Setting) -> tuple[int, int]:
    """Returns the bytes of the optimizer's state, and those that an update takes besides."""
    if not graded:
        return 0, 0
    optimizer = setting.optimizer.build([{"params": graded}])
    if setting.device == "cuda" and setting.optimizer.name in AT_ONCE:
        for group in optimizer.param_groups:
            group["foreach"] = True
    optimizer.step()
    states = [value for state in optimizer.state.values() for value in state.values()]
    tensors = [value for value in states if isinstance(value, torch.Tensor)]
    if setting.optimizer.name in FUSED:
        return size_of(tensors), 0
    gradients = [parameter.grad for parameter in graded if parameter.grad is not None]
    allocations = Allocations([*graded, *gradients, *(tensor for tensor in tensors if tensor.is_meta)])
    with allocations:
        optimizer.step()
    return size_of(tensors), int(allocations.live().max())


def _evaluate(model: torch.nn.Module, setting: Setting, *, examples: int) -> int:
    allocations = Allocations([*model.parameters(), *model.buffers()])
    copies: set[int] = set()

    def note_copy(copy: torch.Tensor) -> None:
        copies.update(allocations.numbers([copy]))

    kernels = Kernels(setting.device, half=setting.half, padded=setting.padded, note_copy=note_copy)
    model.eval()
    with allocations, torch.no_grad():
        inputs = _on_meta(setting.batch, examples)
        labels = inputs.pop("labels")
        with kernels:
            setting.keep(_outputs(model, inputs, setting), labels)
    return int((allocations.live() - allocations.live(only=copies)).max())


def _units(model: torch.nn.Module) -> list[int]:
    """Returns the numbers of parameters that FSDP gathers together: those of each block, and last all others."""
    kinds = set(blocks_to_gather(model)) if getattr(model, "_no_split_modules", None) else set()
    blocks = [module for module in model.modules() if type(module).__name__ in kinds]
    within: set[int] = set()
    units = []
    for block in blocks:
        own = {id(parameter): parameter.numel() for parameter in block.parameters() if id(parameter) not in within}
        within |= own.keys()
        units.append(sum(own.values()))
    rest = sum(parameter.numel() for parameter in model.parameters() if id(parameter) not in within)
    return [*(unit for unit in units if unit), rest]
