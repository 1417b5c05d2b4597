"""What each of several devices holds, by how a model's training is spread over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from finetune.estimates.passes import Usage

Strategy = Literal["data parallel", "zero1", "zero2", "fsdp2"]
STRATEGIES: tuple[Strategy, ...] = ("data parallel", "zero1", "zero2", "fsdp2")
BY_FORMULA: tuple[Strategy, ...] = ("zero1", "zero2")
"""Those by which no run can be launched, as runs refuse DeepSpeed; they are shown to compare with."""

WORKSPACES = 2 * 32 * 2**20
"""What cuBLAS takes on GPUs of compute capability 9: 32 MiB for each thread, one forward and one backward."""
USABLE = 0.9
"""The share of a device's memory that is counted on: the rest is for CUDA itself, its kernels, and gaps."""
GATHERED_AT_ONCE = 2
"""Blocks whose weights FSDP has whole at once: the one that computes, and the one that is fetched meanwhile."""


@dataclass(frozen=True)
class Share:
    """What a device holds at most, in bytes. `gathered`: weights and gradients of others that it has for a while, or
    the buckets in which gradients are added up; `activations`: with copies of weights in half precision."""

    strategy: Strategy
    weights: int
    gradients: int
    states: int
    averages: int
    gathered: int
    activations: int
    peak: int

    def fits(self, memory: int) -> bool:
        """Whether a device of `memory` bytes holds it."""
        return self.peak <= USABLE * memory


def share_of(usage: Usage, strategy: Strategy, *, devices: int, half: bool) -> Share:
    """Returns what each of `devices` holds of `usage`; `half`: whether products are in half precision.

    - data parallel: everything on each; on several, gradients once more, in the buckets that are added up.
    - zero1, zero2 (Rajbhandari et al. 2020, arXiv 1910.02054): weights in the format of the products, and sharded the
      optimizer's state with weights in fp32; zero2: gradients too. DeepSpeed's own buffers aren't counted.
    - fsdp2, as zero3: weights, gradients and state are sharded, and blocks gathered as they are needed. With several
      micro-batches Trainer has gradients added up before they are sharded, so that each device has all of them, in
      fp32, as it has those of the block at hand.
    """
    if strategy == "data parallel":
        return _replicated(usage, devices=devices)
    width = 2 if half else 4
    if strategy == "fsdp2":
        gathered = _gathered(usage, width=width)
        weights, states = usage.weights / devices, usage.states / devices
        gradients = usage.gradients / devices + (4 * usage.trained if usage.accumulated else 0)
    else:
        gathered = 0
        weights = width * usage.parameters
        gradients = width * usage.trained / (devices if strategy == "zero2" else 1)
        states = (usage.states + 4 * usage.trained) / devices
    averages = usage.averages / devices
    kept = weights + states + averages
    passes = gradients + gathered + usage.activations
    stepping = gradients + usage.stepping / devices
    evaluating = gathered + usage.evaluating + usage.aside / devices
    peak = kept + max(passes, stepping, evaluating) + WORKSPACES
    parts = map(round, (weights, gradients, states, averages, gathered, usage.activations, peak))
    return Share(strategy, *parts)


def _replicated(usage: Usage, *, devices: int) -> Share:
    buckets = usage.gradients if devices > 1 else 0
    return Share(
        "data parallel",
        weights=usage.weights,
        gradients=usage.gradients,
        states=usage.states,
        averages=usage.averages,
        gathered=buckets,
        activations=usage.activations + usage.copies,
        peak=max(usage.phases.values()) + buckets + WORKSPACES,
    )


def _gathered(usage: Usage, *, width: int) -> int:
    """Returns the bytes that a device has whole at once under FSDP: in `width` bytes each, the weights outside of
    blocks and of two blocks; in fp32, as they are added up, the gradients of the largest part."""
    *blocks, rest = usage.units
    largest = sorted(blocks, reverse=True)[:GATHERED_AT_ONCE]
    return width * (rest + sum(largest)) + 4 * max(rest, *largest)
