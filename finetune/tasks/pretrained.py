"""Tokenizers and models from the Hub, its cache or a local folder, with one message where they can't be had.

Weights are read from safetensors only and code from a repository never runs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from finetune.errors import ModelError

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


@dataclass(frozen=True)
class Pretrained:
    """Where a pretrained model is: a folder, or a repository on the Hub and its revision."""

    location: str
    revision: str | None = None
    local: bool = False

    def check(self) -> None:
        """Raises ModelError where a local folder lacks what a model needs; a repository is checked when it is read."""
        if not self.local:
            return
        folder = Path(self.location)
        if not folder.is_dir():
            raise ModelError(f"{folder}: no such folder (model.path); for a model on the Hub write model.hub")
        if not (folder / "config.json").is_file():
            raise ModelError(f"{folder}: holds no config.json, so it is not a model folder (model.path)")
        if not any((folder / name).is_file() for name in WEIGHTS):
            raise ModelError(
                f"{folder}: holds no weights: {' or '.join(WEIGHTS)} is needed (pickled weights aren't read)"
            )

    @contextmanager
    def reading(self, what: str) -> Iterator[dict[str, Any]]:
        """Yields the keywords for `from_pretrained`; turns its many errors into one ModelError."""
        try:
            with quiet_transformers():
                yield {"revision": self.revision or "main", "trust_remote_code": False}
        except (OSError, ValueError, RuntimeError, ImportError, KeyError) as error:
            raise ModelError(f"{self.location}: {self._why_not(what, error)}") from error

    def _why_not(self, what: str, error: Exception) -> str:
        from huggingface_hub import is_offline_mode

        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if not self.local and is_offline_mode():
            return (
                f"the {what} isn't in the local cache, and HF_HUB_OFFLINE=1 keeps the Hub out of reach: unset it, "
                "fill the cache on a machine with a connection, or give a local folder as model.path"
            )
        return f"the {what} can't be loaded: {reason}"


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silences transformers' progress bars and load reports, whose content we report ourselves."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def load_tokenizer(source: Pretrained, *, max_length: int) -> PreTrainedTokenizerBase:
    """Returns the tokenizer; raises ModelError where there is none, or the model can't take `max_length` tokens."""
    with source.reading("tokenizer") as keywords:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source.location, **keywords)
        config = AutoConfig.from_pretrained(source.location, **keywords)
    longest = min(tokenizer.model_max_length, getattr(config, "max_position_embeddings", None) or max_length)
    if max_length > longest:
        raise ModelError(f"{source.location}: takes {longest} tokens at most; set task.max_length to {longest} or less")
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise ModelError(
                f"{source.location}: its tokenizer has neither a padding nor an end token, so it can't pad"
            )
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


@dataclass(frozen=True)
class LoadedModel:
    """A model in fp32, the names of its newly initialised tensors, and the commit it came from, where it has one."""

    model: PreTrainedModel
    new_tensors: tuple[str, ...]
    commit: str | None


def load_model(auto_class: Any, source: Pretrained, *, seed: int, **config: Any) -> LoadedModel:
    """Returns the pretrained model under a head initialised from `seed`.

    Raises ModelError where there are no weights, or where they fit so little of the model that most of the encoder
    would start at random, which usually means the wrong folder.
    """
    from transformers import set_seed

    set_seed(seed)
    with source.reading("model") as keywords:
        model, report = auto_class.from_pretrained(
            source.location,
            **keywords,
            **config,
            dtype=torch.float32,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    mismatched = {entry[0] if isinstance(entry, tuple) else entry for entry in report["mismatched_keys"]}
    new = sorted({*report["missing_keys"], *mismatched})
    tensors = len(model.state_dict())
    if len(new) > tensors / 2:
        raise ModelError(
            f"{source.location}: its weights fit {tensors - len(new)} of the {tensors} tensors of a "
            f"{type(model).__name__}; is this the right model?"
        )
    return LoadedModel(model, tuple(new), getattr(model.config, "_commit_hash", None))
