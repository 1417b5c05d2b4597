"""Several processes that a launcher started."""

from __future__ import annotations

import gc
import os

import torch.distributed

from finetune.errors import RunError


def is_main_process() -> bool:
    """Whether this is the process that speaks and writes."""
    return os.environ.get("RANK", "0") == "0"


def leave_together() -> None:
    """Ends the process group in order, if there is one; call it when nothing refers to a trainer any more.

    A gloo thread that drops the last reference to a tensor while the interpreter shuts down aborts the process after
    all work is done, which a launcher takes for a failure. Raises RunError where another process is gone before it.
    """
    gc.collect()
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        try:
            torch.distributed.barrier()
        except RuntimeError as error:
            raise RunError("another process of the run is gone; what that one said is above or below") from error
        torch.distributed.destroy_process_group()
