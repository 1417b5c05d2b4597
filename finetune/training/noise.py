"""Noise on the embeddings of tokens while training: NEFTune (Jain et al. 2023, arXiv 2310.05914)."""

from __future__ import annotations

import functools
from typing import Any

import torch


class EmbeddingNoise:
    """A hook on embeddings: adds uniform noise of at most α/√(L·d) to each value while training.

    d is the size of an embedding and L the number of tokens of the example at hand, padding not counted, so that the
    noise of an example doesn't depend on which others are in its batch. transformers' own takes the padded length.
    Drawn from torch's global generator, as dropout is, so that a run that goes on goes on with the same noise.
    """

    def __init__(self, alpha: float) -> None:
        self._alpha = alpha
        self.mask: torch.Tensor | None = None

    def __call__(self, module: torch.nn.Module, inputs: Any, embedded: torch.Tensor) -> torch.Tensor:
        if not module.training:
            return embedded
        greatest = self._alpha / (self._lengths(embedded) * embedded.shape[-1]).sqrt()
        drawn = torch.empty_like(embedded).uniform_(-1, 1)
        return embedded + drawn * greatest.to(embedded.dtype)[:, None, None]

    def _lengths(self, embedded: torch.Tensor) -> torch.Tensor:
        """Returns how many tokens each row of `embedded`, shape (rows, tokens, d), has: floats of shape (rows,)."""
        rows, tokens = embedded.shape[:2]
        mask = None if self.mask is None else self.mask.reshape(-1, self.mask.shape[-1])
        if mask is None or mask.shape != (rows, tokens):  # such as what a decoder is given, beside an encoder's mask
            return torch.full((rows,), float(tokens), device=embedded.device)
        return mask.sum(dim=-1).clamp(min=1).float()


def add_noise(model: Any, *, alpha: float) -> None:
    """Has `model`, before it is wrapped or captured, add noise to what its input embeddings give while training."""
    noise = EmbeddingNoise(alpha)
    model.get_input_embeddings().register_forward_hook(noise)
    forward = model.forward

    @functools.wraps(forward)  # Trainer reads its signature
    def with_mask(*args: Any, **inputs: Any) -> Any:
        noise.mask = inputs.get("attention_mask")
        try:
            return forward(*args, **inputs)
        finally:
            noise.mask = None

    model.forward = with_mask
