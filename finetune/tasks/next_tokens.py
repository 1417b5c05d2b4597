"""Batches in which each token's label is the one that follows it, and models that must not see that one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from finetune.tasks.encoding import NO_LABEL, Padding

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class NextTokens:
    """A collator: pads as `padding` does, and labels each token, unless it is labelled, with the one that follows.

    labels[t] is for the logits at t: the token at t + 1, and −100 at the end.
    """

    padding: Padding

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> NextTokens:
        """Returns the collator, which pads on the right, as many a model numbers positions from the left."""
        padding = Padding.of(tokenizer, labels=NO_LABEL)
        values = {name: padding.pad_values[name] for name in ("input_ids", "labels")}
        return cls(replace(padding, pad_values=values, side="right"))

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        return self.padding([{"labels": _following(example["input_ids"]), **example} for example in examples])


def _following(ids: Any) -> Any:
    return np.append(ids[1:], NO_LABEL)


def sees_what_follows(model: PreTrainedModel) -> bool:
    """Returns whether the logits of a token depend on the tokens after it, by asking the model for two short texts."""
    ids = torch.arange(8, device=model.device).remainder(model.config.get_text_config().vocab_size).tile(2, 1)
    ids[1, -1] = ids[0, 0]
    was_training = model.training
    model.train(False)  # noqa: FBT003
    with torch.no_grad():
        one, other = model(input_ids=ids).logits[:, :-1].float()
    model.train(was_training)
    return not torch.allclose(one, other, rtol=1e-3, atol=1e-5)
