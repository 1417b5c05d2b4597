"""Dropout whose masks are drawn four to a number of 64 bits: one by one they take a CPU a sixth of an update."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask

NAME = "attention_with_fast_dropout"
CHANCES = 1 << 15
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


class _Dropped(torch.autograd.Function):
    """Zeroes where the bits of `keep` are 0, leaves what is there where they are 1, and scales it."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, keep: torch.Tensor, scale: float) -> torch.Tensor:
        ctx.save_for_backward(keep)
        ctx.scale = scale
        return _kept(values, keep, scale)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (keep,) = ctx.saved_tensors
        return _kept(gradient, keep, ctx.scale), None, None


def _kept(values: torch.Tensor, keep: torch.Tensor, scale: float) -> torch.Tensor:
    integers = _INTEGERS[values.element_size()]
    return (values.view(integers) & keep.to(integers)).view(values.dtype).mul_(scale)


def dropped(values: torch.Tensor, probability: float) -> torch.Tensor:
    """Returns `values`, each zeroed with `probability`, to a 32,768th, or else scaled so that the mean stays.

    Draws from torch's global generator of the CPU. All is done on integers of 16 bits, which a processor takes many of
    at once: a number r of 15 random bits is below t where the sign bit of t − 1 − r isn't set.
    """
    count, zeroed = values.numel(), round(probability * CHANCES)
    drawn = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
    bits = drawn[:count].view(values.shape).bitwise_and_(CHANCES - 1)
    keep = bits.neg_().add_(zeroed - 1).bitwise_right_shift_(15)
    made: torch.Tensor = _Dropped.apply(values, keep, CHANCES / (CHANCES - zeroed))  # type: ignore[no-untyped-call]
    return made


class FastDropout(torch.nn.Dropout):
    """torch's own, with other draws."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - as the base class calls it
        """Returns `input` as `dropped` does while training, and as it is otherwise."""
        return dropped(input, self.p) if self.training and 0 < self.p < 1 else super().forward(input)


def attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Returns what is attended to, (n, tokens, heads, size), from `query`, `key` and `value`, (n, heads, tokens, size).

    `attention_mask` is added to the products, whose scale is 1/√size unless it is given.
    """
    groups = getattr(module, "num_key_value_groups", 1)
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = torch.matmul(query * scale, key.transpose(2, 3))
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    if module.training and dropout > 0:
        weights = dropped(weights, dropout)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), None


def use_fast_dropout(model: torch.nn.Module) -> None:
    """Has every dropout of `model` drawn fast, those of its attention too where transformers lets it be exchanged."""
    for module in model.modules():
        if type(module) is torch.nn.Dropout:
            module.__class__ = FastDropout
    if isinstance(model, PreTrainedModel) and model._supports_attention_backend:
        AttentionInterface.register(NAME, attention)
        AttentionMaskInterface.register(NAME, eager_mask)
        model.set_attn_implementation(NAME)
