"""The passes of a model as CUDA graphs, by which a GPU needn't wait for Python to launch each of its kernels."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch

from finetune.training.random_state import preserved_random_state

MOST_SHAPES = 64


class GraphedForward:
    """Stands in for a model's `forward` on a GPU: replays the forward and the backward pass that it captured once.

    A graph is for one shape of batch, captured when it is first met, by which no random number is drawn; evaluations,
    and shapes beyond `MOST_SHAPES`, go through `forward` itself. What `forward` decides by Python, such as layers that
    are left out at random, is decided once. The gradients of a replay lie where those of the last one lay, so each must
    be used before the next is made: no gradients can be accumulated.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self._model = model
        self._forward: Callable[..., Any] = model.forward
        self._graphs: dict[tuple[Any, ...], Callable[..., Any]] = {}
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, **inputs: Any) -> Any:
        training = self._model.training and torch.is_grad_enabled()
        tensors = {name: value for name, value in inputs.items() if isinstance(value, torch.Tensor) and value.is_cuda}
        shapes = tuple((name, *tensor.shape) for name, tensor in tensors.items())
        if not training or (shapes not in self._graphs and len(self._graphs) == MOST_SHAPES):
            return self._forward(**inputs)
        if shapes not in self._graphs:
            with preserved_random_state(), warnings.catch_warnings():
                # Gradients are taken here, and not added up, so that it doesn't matter where they would be.
                warnings.filterwarnings("ignore", "The AccumulateGrad node's stream does not match")
                self._graphs[shapes] = self._captured(tensors)
        return self._graphs[shapes](*tensors.values())

    def _captured(self, inputs: dict[str, torch.Tensor]) -> Callable[..., Any]:
        passes = _Passes(self._model, self._forward, tuple(inputs))
        dtype = torch.get_autocast_dtype("cuda")
        # Weights that are cast once, and kept for the next pass, would be cast in one graph and used in another.
        with torch.autocast("cuda", dtype=dtype, enabled=torch.is_autocast_enabled("cuda"), cache_enabled=False):
            samples = tuple(tensor.clone() for tensor in inputs.values())
            graphed: Callable[..., Any] = torch.cuda.make_graphed_callables(
                passes, samples, allow_unused_input=True, pool=self._pool
            )
        return graphed


class _Passes(torch.nn.Module):
    """A model that takes its inputs one after the other, as graphs do."""

    def __init__(self, model: torch.nn.Module, forward: Callable[..., Any], names: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self._names = names
        self._forward = forward

    def forward(self, *inputs: torch.Tensor) -> Any:
        """Returns the model's outputs."""
        return self._forward(**dict(zip(self._names, inputs, strict=True)))


def use_graphs(model: torch.nn.Module) -> None:
    """Has the training passes of `model`, which is on a GPU, replayed from CUDA graphs."""
    model.forward = GraphedForward(model)
