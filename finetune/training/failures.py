"""What befalls a process while it trains, in words: memory that runs out, a worker or another process that is gone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate.utils.memory import should_reduce_batch_size

from finetune.errors import DataError, ModelError, RunError

_GONE = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer")


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether `error` says that the memory of a GPU or of this machine didn't suffice."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, Exception) and should_reduce_batch_size(error)
    )


def failure_of(error: Exception, *, processes: int) -> str | None:
    """Returns in words what ended the training of a run on `processes`; None where it is an error of the program."""
    text = str(error)
    if isinstance(error, RunError):
        return text
    if "DataLoader worker" in text:
        return (
            f"a worker that prepares batches died ({text.splitlines()[0]}), as where memory or /dev/shm is short; "
            "training.workers=0 needs none"
        )
    if is_out_of_memory(error):
        return f"out of memory ({text.splitlines()[0]}); set training.micro_batch_size, or to less"
    if processes > 1 and any(sign in text for sign in _GONE):
        return "another process of the run is gone; what that one said, if anything, is above or below"
    return None


@contextmanager
def errors_of_workers() -> Iterator[None]:
    """Takes what is raised for a user by a worker that prepares batches out of the traceback that torch puts it in."""
    try:
        yield
    except (DataError, ModelError) as error:
        text = str(error)
        if "DataLoader worker" not in text:
            raise
        raise type(error)(text.rpartition(f"{type(error).__name__}: ")[2].strip()) from error
