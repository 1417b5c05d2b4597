"""What torch's functions keep on a GPU, for tensors of the meta device, which has neither its kernels nor autocast.

The rules are those of torch's autocast for CUDA ("Autocast op reference" in its documentation): products of matrices in
half precision, each weight cast once in a pass; norms, softmaxes and losses in fp32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch.overrides import TorchFunctionMode

Device = Literal["cuda", "cpu"]

PRODUCTS = frozenset(
    "linear matmul __matmul__ __rmatmul__ bmm mm addmm baddbmm einsum conv1d conv2d conv3d conv_transpose1d "
    "conv_transpose2d conv_transpose3d scaled_dot_product_attention".split()
)
IN_FULL = frozenset(
    "layer_norm group_norm softmax log_softmax cross_entropy nll_loss mse_loss l1_loss smooth_l1_loss huber_loss "
    "binary_cross_entropy_with_logits cosine_similarity exp log rsqrt pow __pow__ norm logsumexp softplus "
    "cumsum".split()
)
IN_FULL_ON_CPU = frozenset("nll_loss mse_loss".split())


class Kernels(TorchFunctionMode):
    """Has functions keep what those of `device` do; with `half`, as under autocast to it.

    `padded`: whether masks hide anything, by which models choose how to attend. `note_copy` is called with every copy
    of a weight in half precision, of which one serves the whole pass, unless `once`: a part that is computed anew in
    the backward pass makes its own.
    """

    def __init__(
        self,
        device: Device,
        *,
        half: torch.dtype | None,
        padded: bool,
        note_copy: Callable[[torch.Tensor], None],
        once: bool = False,
    ) -> None:
        super().__init__()
        self._device = device
        self._half = half
        self._padded = padded
        self._note_copy = note_copy
        self._once = once
        self._in_full = IN_FULL if device == "cuda" else IN_FULL_ON_CPU
        self._copies: dict[int, torch.Tensor] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Calls the function, or what stands for it on the device."""
        named: dict[str, Any] = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "__bool__" and args[0].is_meta:
            return not self._padded
        if self._half is not None:
            cast = self._to_half if name in PRODUCTS else self._to_full if name in self._in_full else None
            if cast is not None:
                args = tuple(_mapped(each, cast) for each in args)
                named = {key: _mapped(value, cast) for key, value in named.items()}
        stand_in = STAND_INS[self._device].get(name, func)
        return stand_in(*args, **named)

    def _to_half(self, tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_floating_point() or tensor.dtype in (self._half, torch.float64):
            return tensor
        is_weight = tensor.is_leaf and tensor.requires_grad and tensor.dtype == torch.float32
        if not is_weight:
            return tensor.to(self._half)
        copy = self._copies.get(id(tensor))
        if copy is None:
            with torch.enable_grad():
                copy = tensor.to(self._half)
            self._note_copy(copy)
            if not self._once:
                self._copies[id(tensor)] = copy
        return copy

    def _to_full(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(torch.float32) if tensor.dtype == self._half else tensor


def _mapped(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, list | tuple):
        return type(value)(_mapped(each, change) for each in value)
    return value


def _dropout(input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:  # noqa: A002, FBT001, FBT002 - torch's own signature
    """As a GPU does it, which keeps a mask of a byte for each value."""
    if not training or p == 0:
        return input
    dropped: torch.Tensor = torch.ops.aten.native_dropout(input, p, True)[0]  # noqa: FBT003
    return dropped


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,  # noqa: FBT001, FBT002 - torch's own signature
    scale: float | None = None,
    enable_gqa: bool = False,  # noqa: FBT001, FBT002
) -> torch.Tensor:
    """As the fused kernels of a GPU do it, which keep no scores: FlashAttention, or where there is a mask, the
    memory-efficient one, which keeps the mask as numbers."""
    aten: Any = torch.ops.aten
    attended: torch.Tensor
    if attn_mask is None and query.dtype in (torch.bfloat16, torch.float16):
        attended = aten._scaled_dot_product_flash_attention(
            query, key, value, dropout_p, is_causal, return_debug_mask=False, scale=scale
        )[0]
        return attended
    if enable_gqa:
        groups = query.shape[-3] // key.shape[-3]
        key, value = (each.repeat_interleave(groups, dim=-3) for each in (key, value))
    if attn_mask is not None:
        bias = torch.empty_like(attn_mask, dtype=query.dtype) if attn_mask.dtype == torch.bool else attn_mask
        attn_mask = bias.expand(*query.shape[:-1], key.shape[-2])
    attended = aten._scaled_dot_product_efficient_attention(
        query, key, value, attn_mask, torch.is_grad_enabled(), dropout_p, is_causal, scale=scale
    )[0]
    return attended


def _attention_on_cpu(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,  # noqa: FBT001, FBT002 - torch's own signature
    scale: float | None = None,
    enable_gqa: bool = False,  # noqa: FBT001, FBT002
) -> torch.Tensor:
    """As a CPU does it: by a fused kernel too, but where there is dropout by matrix products, which keep the scores."""
    more: dict[str, Any] = {"is_causal": is_causal, "scale": scale}
    if dropout_p > 0 or enable_gqa:
        return torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, enable_gqa=enable_gqa, **more
        )
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.empty_like(attn_mask, dtype=query.dtype)
    aten: Any = torch.ops.aten
    attended: torch.Tensor = aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, attn_mask=attn_mask, **more
    )[0]
    return attended


STAND_INS: Mapping[Device, Mapping[str, Callable[..., torch.Tensor]]] = {
    "cuda": {"dropout": _dropout, "scaled_dot_product_attention": _attention},
    "cpu": {"scaled_dot_product_attention": _attention_on_cpu},
}
"""What stands for functions on each device."""
