"""The micro-batches of an update, cut smaller where memory doesn't suffice for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache

from finetune.errors import RunError, counted
from finetune.training.failures import is_out_of_memory
from finetune.training.random_state import random_state, set_random_state

Inputs = Mapping[str, torch.Tensor]
Count = torch.Tensor | int | None


class MicroBatches:
    """Makes each micro-batch's share of an update by `step(inputs, count)`: adds its gradients, and returns its loss.

    `count`: the examples of the whole update, that losses are divided by, so that those of parts add up. Where memory
    runs out, and it `halves`, each micro-batch is cut in half from there on, the update at hand made anew from its
    start: `clear` forgets the gradients so far. `where()` says in words where training is, and `say` is told of it.
    `pieces`: the parts that each micro-batch is cut into.
    """

    def __init__(
        self,
        step: Callable[[dict[str, Any], Count], torch.Tensor],
        *,
        halves: bool,
        clear: Callable[[], None],
        where: Callable[[], str],
        say: Callable[[str], None],
    ) -> None:
        self.pieces = 1
        self._step = step
        self._halves = halves
        self._clear = clear
        self._where = where
        self._say = say
        self._loss: torch.Tensor | None = None
        self._seen: list[Inputs] = []
        self._random: dict[str, Any] = {}

    def take_loss(self) -> torch.Tensor:
        """Returns the loss of the update just made, and begins another."""
        assert self._loss is not None  # noqa: S101 - no update is without a micro-batch
        loss, self._loss = self._loss, None
        return loss

    def add(self, inputs: Inputs, count: Count) -> torch.Tensor:
        """Returns the loss of one more micro-batch; raises RunError where memory doesn't suffice for it."""
        if self._loss is None and self._halves:
            self._random = random_state()
        self._seen = [inputs] if self._loss is None else [*self._seen, inputs]
        loss = self._made([inputs], count)
        while loss is None:
            self._halve(inputs)
            self._loss, loss = None, self._made(self._seen, count)
        self._loss = loss if self._loss is None else self._loss + loss
        return loss

    def _made(self, micro_batches: Iterable[Inputs], count: Count) -> torch.Tensor | None:
        """Returns the sum of the losses; None where memory ran out, when all that led there can be freed."""
        try:
            losses = [self._step(part, count) for inputs in micro_batches for part in cut(inputs, pieces=self.pieces)]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return None
        return torch.stack(losses).sum() if len(losses) > 1 else losses[0]

    def _halve(self, inputs: Inputs) -> None:
        examples = count_of(inputs)
        largest = -(-examples // self.pieces)
        if not self._halves or largest == 1:
            raise RunError(
                f"out of memory on {self._where()}, by a micro-batch of {counted(largest, 'example')}"
                f"{_tokens(inputs)}: {_remedy(largest, inputs)}"
            )
        self.pieces *= 2
        self._say(f"out of memory on {self._where()}: micro-batches of {-(-largest // 2)} from here on")
        clear_device_cache(garbage_collection=True)
        self._clear()
        set_random_state(self._random)


def count_of(inputs: Inputs) -> int:
    """Returns the number of examples in a batch."""
    return len(next(iter(inputs.values())))


def _tokens(inputs: Inputs) -> str:
    ids = inputs.get("input_ids")
    return "" if ids is None else f" of {ids.shape[-1]} tokens, padding included"


def _remedy(examples: int, inputs: Inputs) -> str:
    if examples == 1:
        shorter = "lower task.max_length, or " if "input_ids" in inputs else ""
        return f"even one example is too large; {shorter}choose a smaller model"
    return (
        f"set training.micro_batch_size to {examples // 2}, which leaves the batch of an update as it is, or "
        "training.on_out_of_memory to halve, by which a run on one process does so itself"
    )


def cut(inputs: Inputs, *, pieces: int) -> list[dict[str, Any]]:
    """Returns the examples of a batch in `pieces` parts, whose sizes differ by one at most; empty ones are left out."""
    if pieces == 1:
        return [dict(inputs)]
    parts = {name: tensor.tensor_split(pieces) for name, tensor in inputs.items()}
    rows = [dict(zip(parts, each, strict=True)) for each in zip(*parts.values(), strict=True)]
    return [row for row in rows if count_of(row)]
