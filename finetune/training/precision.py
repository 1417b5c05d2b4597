"""The floating-point format in which a model computes; its weights are always kept in fp32."""

from __future__ import annotations

from typing import Literal

import torch

from finetune.errors import DeviceError

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Format = Literal["fp32", "bf16", "fp16"]


def bf16_gains(device: torch.device) -> bool:
    """Returns whether `device` multiplies bf16 matrices faster than fp32 ones: by its own instructions."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        cpu = torch.cpu
        return bool(cpu._is_amx_tile_supported() or cpu._is_avx512_bf16_supported())
    return False


def resolve_precision(asked: Precision, device: torch.device, *, setting: str = "training.precision") -> Format:
    """Returns the format to use: of "auto", bf16 where the hardware gains from it, else fp32.

    Raises DeviceError, which names the `setting`, for fp16 without a GPU: its gradients need a scaler that a CPU
    doesn't have.
    """
    if asked == "auto":
        return "bf16" if bf16_gains(device) else "fp32"
    if asked == "fp16" and device.type == "cpu":
        raise DeviceError(f"{setting}: fp16 needs a GPU, and this machine trains on its CPU; use auto or bf16")
    return asked
