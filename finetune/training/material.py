"""What a run is made from: its data, checked, encoded and fingerprinted, and its tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from finetune.data import fingerprint, load_files, load_hub
from finetune.evaluation.record import SplitIdentity
from finetune.recipe import FileData, Recipe
from finetune.tasks.pretrained import Pretrained

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from finetune.tasks.encoding import EncodedSplit
    from finetune.tasks.text_classification import LabelledTexts


@dataclass(frozen=True)
class RawData:
    """The checked examples of each split, the class names, and each split's fingerprint."""

    examples: Mapping[str, LabelledTexts]
    classes: tuple[str, ...]
    fingerprints: Mapping[str, str]


@dataclass(frozen=True)
class Material:
    """Everything encoded. `identities` says what each split was."""

    splits: Mapping[str, EncodedSplit]
    classes: tuple[str, ...]
    identities: Mapping[str, SplitIdentity]
    tokenizer: PreTrainedTokenizerBase


def read_data(recipe: Recipe) -> RawData:
    """Reads and checks every split that the recipe names; raises DataError."""
    splits = _load(recipe)
    classes, examples = recipe.task.read(splits)
    fingerprints = {split: fingerprint(dataset, recipe.task.columns) for split, dataset in splits.items()}
    return RawData(examples, classes, fingerprints)


def _load(recipe: Recipe) -> dict[str, Dataset]:
    data = recipe.data
    if isinstance(data, FileData):
        return load_files(data.files)
    return load_hub(data.hub, configuration=data.config, revision=data.revision, splits=data.splits)


def encode(recipe: Recipe, data: RawData) -> Material:
    """Tokenises every split; raises ModelError where the tokenizer can't be had."""
    tokenizer = recipe.task.load_tokenizer(pretrained_model(recipe))
    splits = {split: recipe.task.encode(examples, tokenizer) for split, examples in data.examples.items()}
    identities = {
        split: SplitIdentity(fingerprint=data.fingerprints[split], count=len(encoded), truncated=encoded.truncated)
        for split, encoded in splits.items()
    }
    return Material(splits, data.classes, identities, tokenizer)


def pretrained_model(recipe: Recipe) -> Pretrained:
    """Returns where the recipe's model is; raises ModelError where a local folder isn't a model's."""
    model = recipe.model
    source = Pretrained(str(model.path or model.hub), revision=model.revision, local=model.path is not None)
    source.check()
    return source


def describe_source(recipe: Recipe) -> str:
    """Returns the model's name as people know it: its repository, or its folder's name."""
    return Path(recipe.model.path).name if recipe.model.path else str(recipe.model.hub)
