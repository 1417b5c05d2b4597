"""Tokenizers and models from the Hub, its cache or a local folder, with one message where they can't be had.

Weights are read from safetensors only, and code that comes with a model runs only where it is trusted.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from transformers import (
    AutoConfig,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging
from transformers.utils.peft_utils import find_adapter_config_file

from finetune.data.hub_access import reaching_the_hub, why_out_of_reach
from finetune.errors import ModelError
from finetune.tasks.model_folder import ADAPTER, check_length, check_location
from finetune.tasks.trust import refuse_code


@dataclass(frozen=True)
class Pretrained:
    """Where a pretrained model is: a folder, or a repository on the Hub and its revision.

    `trust_remote_code`: whether code that comes with it may run; `dropout`: the probability of every dropout, where it
    isn't to be the model's own. `without_weights`: models are made by their configuration alone, on torch's meta
    device, and no tensor counts as new.
    """

    location: str
    revision: str | None = None
    local: bool = False
    trust_remote_code: bool = False
    dropout: float | None = None
    without_weights: bool = False

    def check(self) -> None:
        """Raises ModelError where a local folder lacks what a model needs, or reaches out of itself.

        A repository is checked when it is read.
        """
        check_location(self.location, local=self.local)

    def commit(self) -> str | None:
        """Returns the commit that the repository's files in the cache are of; None for a folder."""
        if self.local:
            return None
        with reaching_the_hub():
            path = hf_hub_download(self.location, "config.json", revision=self.revision)
        return Path(path).parent.name

    @contextmanager
    def reading(self, what: str) -> Iterator[dict[str, Any]]:
        """Yields the keywords for `from_pretrained`; turns its many errors into one ModelError."""
        with nullcontext() if self.local else reaching_the_hub(), self._in_one_message(what), quiet_transformers():
            if find_adapter_config_file(self.location, revision=self.revision or "main") is not None:
                raise ModelError(ADAPTER)
            if not self.trust_remote_code:
                refuse_code(PreTrainedConfig.get_config_dict(self.location, revision=self.revision or "main")[0])
            yield {"revision": self.revision or "main", "trust_remote_code": self.trust_remote_code}

    @contextmanager
    def _in_one_message(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise ModelError(f"{self.location}: {self._why_not(what, error)}") from error

    def _why_not(self, what: str, error: Exception) -> str:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if not self.local and isinstance(error, OSError) and (why := why_out_of_reach()):
            return (
                f"the {what} isn't in the local cache, and {why}, fill the cache on a machine with a connection, or "
                f"give a local folder as model.path ({reason})"
            )
        if "trust_remote_code" in str(error):
            return f"the {what} runs code that comes with it: read it, and pass --trust-remote-code if you trust it"
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


def load_tokenizer(source: Pretrained, *, max_length: int, **settings: Any) -> PreTrainedTokenizerBase:
    """Returns the tokenizer, with a padding token; `settings`: of its own, in place of those that it comes with.

    Raises ModelError where there is none, it has more tokens than the model, or the model can't take `max_length`.
    """
    with source.reading("tokenizer") as keywords:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source.location, **keywords, **settings)
        config = AutoConfig.from_pretrained(source.location, **keywords)
    # Where the files are missing, transformers 5 returns a tokenizer of nothing but special tokens.
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise ModelError(f"{source.location}: holds no vocabulary; is its tokenizer.json missing?")
    tokens = max(tokenizer.get_vocab().values()) + 1  # more than there are names where numbers are left out
    embedded = getattr(config, "vocab_size", None) or tokens
    if tokens > embedded:
        raise ModelError(
            f"{source.location}: its tokenizer has {tokens:,} tokens, but its model only {embedded:,}; "
            "they don't belong together"
        )
    if not isinstance(tokenizer.model_max_length, int | float):
        raise ModelError(
            f"{source.location}: the model_max_length in its tokenizer_config.json is not a number; leave it out"
        )
    check_length(
        source.location,
        max_length,
        tokenizer=tokenizer.model_max_length,
        positions=getattr(config, "max_position_embeddings", None),
    )
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise ModelError(
                f"{source.location}: its tokenizer has neither a padding nor an end token, so it can't pad"
            )
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_image_processor(source: Pretrained) -> Any:
    """Returns the image processor that works by PIL and numpy, whatever else is installed, so that all machines agree.

    Raises ModelError where there is none.
    """
    from transformers import AutoImageProcessor

    auto_class: Any = AutoImageProcessor
    with source.reading("image processor") as keywords:
        return auto_class.from_pretrained(source.location, backend="pil", **keywords)


@dataclass(frozen=True)
class LoadedModel:
    """A model in fp32, the names of its newly initialised tensors, and the commit it came from, where it has one."""

    model: PreTrainedModel
    new_tensors: tuple[str, ...]
    commit: str | None


@dataclass(frozen=True)
class Weights:
    """Pretrained tensors held in memory, for as many models as are made of them.

    `generation`: by which settings a model that can generates, which aren't in its `config`.
    """

    kind: type[PreTrainedModel]
    config: PreTrainedConfig
    generation: GenerationConfig | None
    tensors: Mapping[str, torch.Tensor]
    commit: str | None

    @classmethod
    def of(cls, loaded: LoadedModel) -> Weights:
        """Returns a copy of what was read for `loaded`, which must not have been trained yet."""
        state = loaded.model.state_dict()
        tensors = {name: tensor.clone() for name, tensor in state.items() if name not in loaded.new_tensors}
        config = copy.deepcopy(loaded.model.config)
        generation = copy.deepcopy(getattr(loaded.model, "generation_config", None))
        return cls(type(loaded.model), config, generation, tensors, loaded.commit)

    def load(self, *, seed: int) -> LoadedModel:
        """Returns the model that `load_model` would read for `seed`, and leaves the same random state."""
        from transformers import set_seed

        set_seed(seed)
        with quiet_transformers():
            made: Any = self.kind.from_pretrained(
                None,
                config=copy.deepcopy(self.config),
                state_dict={name: tensor.clone() for name, tensor in self.tensors.items()},
                dtype=torch.float32,
                output_loading_info=True,
            )
        model, report = made
        if self.generation is not None:
            model.generation_config = copy.deepcopy(self.generation)
        model.name_or_path = model.config.name_or_path = self.config.name_or_path
        return LoadedModel(model, tuple(sorted(report["missing_keys"])), self.commit)


def load_classifier(
    auto_class: str, source: Pretrained, *, classes: Sequence[str], seed: int, **config: Any
) -> LoadedModel:
    """Returns `load_model` of a class of transformers that knows the names of its classes."""
    import transformers

    return load_model(
        getattr(transformers, auto_class),
        source,
        seed=seed,
        id2label=dict(enumerate(classes)),
        label2id={name: number for number, name in enumerate(classes)},
        **config,
    )


def _with_dropout(config: PreTrainedConfig, source: Pretrained) -> dict[str, float]:
    """Returns every probability of dropout in `config`, at what `source` says; raises ModelError where it has none.

    Names differ by architecture: hidden_dropout_prob, attention_dropout, resid_pdrop, seq_classif_dropout, … One that
    is None follows another of them. Whole layers or paths that are left out (layerdrop, drop_path_rate) are no dropout.
    """
    named = {name for name in config.to_dict() if "dropout" in name or name.endswith("pdrop")}
    found = {name for name in named if type(getattr(config, name)) in (int, float)}
    if not found:
        raise ModelError(
            f"{source.location}: regularisation.dropout is {source.dropout:g}, and the config of {config.model_type} "
            "has no dropout to set: leave it out"
        )
    assert source.dropout is not None  # noqa: S101 - the caller's condition
    return dict.fromkeys(sorted(found), source.dropout)


def _without_weights(
    auto_class: Any, source: Pretrained, keywords: Mapping[str, Any], config: Mapping[str, Any]
) -> PreTrainedModel:
    read = AutoConfig.from_pretrained(source.location, **keywords, **config)
    with torch.device("meta"):
        model: PreTrainedModel = auto_class.from_config(
            read, dtype=torch.float32, trust_remote_code=source.trust_remote_code
        )
    return model


def load_model(auto_class: Any, source: Pretrained, *, seed: int, **config: Any) -> LoadedModel:
    """Returns the pretrained model under a head initialised from `seed`; sets the global seeds to it.

    Raises ModelError where the weights can't be read, or lack a tensor of the encoder (a pooler apart, which not every
    pretraining has) or hold it in another shape, so that it would start at random.
    """
    from transformers import set_seed

    set_seed(seed)
    with source.reading("model") as keywords:
        if source.dropout is not None:
            config |= _with_dropout(AutoConfig.from_pretrained(source.location, **keywords), source)
        if source.without_weights:
            return LoadedModel(_without_weights(auto_class, source, keywords, config), (), None)
        model, report = auto_class.from_pretrained(
            source.location,
            **keywords,
            **config,
            dtype=torch.float32,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    new = sorted({*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])})
    encoder = [name for name in model.state_dict() if name.startswith(f"{model.base_model_prefix}.")]
    random = [name for name in new if name in encoder and "pooler" not in name]
    if random:
        raise ModelError(
            f"{source.location}: its weights lack {len(random)} of the {len(encoder)} tensors of the encoder of "
            f"{type(model).__name__}, or hold them in another shape; the first is {random[0]}; is this the right "
            "model, and the config.json of these weights?"
        )
    return LoadedModel(model, tuple(new), source.commit())
