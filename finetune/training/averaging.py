"""Averages of the weights that a run passes through, which can take the place of its own in the model."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from finetune.training.shards import as_shards_of, forget_gathered, local, shards_put_together

if TYPE_CHECKING:
    from finetune.recipe.regularisation import Averaging

Name = Literal["plain", "ema", "average"]
Tensors = dict[str, torch.Tensor]


def ema_decay(decay: float, *, updates: int, warmup: bool) -> float:
    """Returns what is left of an average at update `updates`, counted from 1: `decay`, or less while it warms up."""
    return min(decay, (1 + updates) / (10 + updates)) if warmup else decay


class Averages(TrainerCallback):
    """Keeps the averages that `settings` ask for, none where they are None, in fp32.

    Averaged is all that an update can change: the parameters that the optimizer has, and buffers of floats. The
    exponential average lies on the model's device; of the uniform one the last weights, as many as it is of or fewer
    where there are fewer, are in the machine's memory, and in each checkpoint. An update for which `is_skipped()`
    leaves the former as it is. Every process has its own, and they are equal, as the weights are.

    `kept`: the weights of which a model is kept; `ranked`: those that evaluations on the way rank.
    """

    def __init__(self, settings: Averaging | None, *, is_skipped: Callable[[], bool] = lambda: False) -> None:
        self.kept: Name = settings.keep if settings else "plain"
        self.ranked: Name = "ema" if self.kept == "ema" else "plain"
        self._ema_settings = settings.ema if settings else None
        self._window: deque[Tensors] = deque(maxlen=(settings.checkpoints if settings else None) or 0)
        self._is_skipped = is_skipped
        self._model: torch.nn.Module | None = None
        self._weights: Tensors = {}
        self._ema: Tensors = {}
        self._updates = 0

    @property
    def evaluated(self) -> tuple[Name, ...]:
        """The weights that every evaluation is of."""
        return ("plain",) if self._ema_settings is None else ("plain", "ema")

    @property
    def evaluated_last(self) -> tuple[Name, ...]:
        """The weights that are evaluated when a run ends."""
        return (*self.evaluated, "average") if self._window.maxlen else self.evaluated

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._model = kwargs["model"]
        self._weights = _changing(self._model, kwargs["optimizer"])
        self._window = deque(map(self._own_parts, self._window), self._window.maxlen)
        if self._ema_settings is not None:
            start = self._own_parts(self._ema or self._weights)
            self._ema = {
                name: start[name].detach().to(weight.device, torch.float32, copy=True)
                for name, weight in self._weights.items()
            }

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._ema_settings is None or self._is_skipped():
            return
        self._updates += 1
        decay = ema_decay(self._ema_settings.decay, updates=self._updates, warmup=self._ema_settings.warmup)
        weights = [local(weight.detach()).float() for weight in self._weights.values()]
        torch._foreach_lerp_(list(self._ema.values()), weights, 1 - decay)

    def note_evaluation(self) -> None:
        """Takes the weights as they are for those of one more evaluation."""
        if self._window.maxlen:
            self._window.append(
                {
                    name: local(weight.detach()).to("cpu", torch.float32, copy=True)
                    for name, weight in self._weights.items()
                }
            )

    @contextmanager
    def using(self, name: Name) -> Iterator[None]:
        """Has the model be one of the weights `name` meanwhile; it has its own, bit for bit, afterwards."""
        if name == "plain":
            yield
            return
        aside = {key: local(weight.detach()).clone() for key, weight in self._weights.items()}
        self._put(self._ema if name == "ema" else self._average())
        try:
            yield
        finally:
            self._put(aside)

    def _average(self) -> Tensors:
        return {name: torch.stack([each[name] for each in self._window]).mean(dim=0) for name in self._weights}

    @torch.no_grad()
    def _put(self, tensors: Mapping[str, torch.Tensor]) -> None:
        for name, weight in self._weights.items():
            local(weight).copy_(tensors[name])
        if self._model is not None:
            forget_gathered(self._model)

    def _own_parts(self, tensors: Mapping[str, torch.Tensor]) -> Tensors:
        """Returns what this process holds of tensors that belong to the weights, whole, cut or its own part already."""
        return {name: local(as_shards_of(tensors[name], weight)) for name, weight in self._weights.items()}

    def _put_together(self, tensors: Mapping[str, torch.Tensor]) -> Tensors:
        return {name: shards_put_together(tensor, self._weights[name]) for name, tensor in tensors.items()}

    def state(self) -> dict[str, Any]:
        """Returns what a checkpoint has to hold of the averages: plain values, and tensors cut as the weights are."""
        return {
            "updates": self._updates,
            "ema": self._put_together(self._ema),
            "window": [self._put_together(tensors) for tensors in self._window],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Takes up what `state` returned, before training begins."""
        self._updates, self._ema = state["updates"], dict(state["ema"])
        self._window.extend(state["window"])


def _changing(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Tensors:
    """Returns the tensors of `model` that an update can change, by name, one that has several names once."""
    trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    found: dict[int, tuple[str, torch.Tensor]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        is_buffer = not isinstance(tensor, torch.nn.Parameter) and tensor.is_floating_point()
        if id(tensor) in trained or is_buffer:
            found.setdefault(id(tensor), (name, tensor))
    return dict(found.values())
