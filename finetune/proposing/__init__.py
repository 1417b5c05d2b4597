"""A recipe proposed from a look at the data: task, columns, splits, lengths, batches and rate, each with its reason."""

from finetune.proposing.drafting import Draft, Wishes, draft_recipe
from finetune.proposing.tasks import Proposal, propose_task

__all__ = ["Draft", "Proposal", "Wishes", "draft_recipe", "propose_task"]
