"""Cross-entropies of tokens, in fp32, without a copy of all logits in that format where there are many."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from finetune.tasks.encoding import NO_LABEL

CELLS = 2**25
"""How many logits are in fp32 at once, 128 MB, where there are more of them."""


def summed_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Returns the cross-entropy of logits, shape (n, tokens, vocabulary), summed over the labels that aren't −100.

    Where there are more than `CELLS` logits it is summed over parts of them, and what the backward pass needs of a part
    is computed anew there: of a vocabulary of 50,000 it would be the largest thing in memory.
    """
    parts = _parts(logits, labels)
    if len(parts) == 1:
        return _summed(*parts[0])
    summed: list[torch.Tensor] = [
        checkpoint(_summed, *part, use_reentrant=False, preserve_rng_state=False) for part in parts
    ]
    return torch.stack(summed).sum()


def scores_of_each(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Returns what each of n sequences scores, shape (n,): "nll", "right" and "counted", sums over its labels."""
    losses, right = [], []
    for some, wanted in _parts(logits, labels):
        losses.append(cross_entropy(some.float(), wanted, reduction="none", ignore_index=NO_LABEL))
        right.append(some.argmax(dim=-1) == wanted)
    return {
        "nll": torch.cat(losses).view(labels.shape).sum(dim=1),
        "right": torch.cat(right).view(labels.shape).sum(dim=1),
        "counted": labels.ne(NO_LABEL).sum(dim=1),
    }


def _summed(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return cross_entropy(logits.float(), labels, reduction="sum", ignore_index=NO_LABEL)


def _parts(logits: torch.Tensor, labels: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    size = max(1, CELLS // logits.shape[-1])
    return list(zip(torch.split(logits.flatten(0, 1), size), torch.split(labels.flatten(), size), strict=True))
