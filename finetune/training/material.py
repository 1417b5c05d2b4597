"""What a run is made from: its data, checked, encoded and fingerprinted, and what its model takes it by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune.data import load_files, load_folders, load_hub
from finetune.errors import settings_within
from finetune.evaluation.record import SplitIdentity
from finetune.metrics import check_classes as check_classes_of_metrics
from finetune.recipe import FileData, FolderData, Recipe
from finetune.training.cache import Cache, cache_folder

if TYPE_CHECKING:
    from finetune.data import Rows
    from finetune.tasks.base import Examples, Split
    from finetune.tasks.pretrained import LoadedModel, Pretrained, Weights

EVALUATED = 0
"""The seed that draws from splits whose examples must be the same in all runs."""
DRAWING = 0xD4A
"""Keeps the drawing of examples apart from everything else that is drawn by the same seed."""


@dataclass(frozen=True)
class RawData:
    """The checked examples of each split, the class names, each split's fingerprint, and what to know of them."""

    examples: Mapping[str, Examples]
    classes: tuple[str, ...]
    fingerprints: Mapping[str, str]
    cautions: Sequence[str]


@dataclass(frozen=True)
class Material:
    """Everything encoded. `identities` says what each split was, `processor` is the model's tokenizer or image
    processor, `cautions` what the scores must be read with, `not_kept` why the cache couldn't keep something, if so."""

    splits: Mapping[str, Split]
    classes: tuple[str, ...]
    identities: Mapping[str, SplitIdentity]
    processor: Any
    cautions: Sequence[str]
    not_kept: str | None = None


class Library:
    """The data, the tokenised examples and the weights of recipes, each read once however many recipes share them.

    `keep_weights`: holds a copy of every pretrained model, for those who make more than one run of it.
    `trust_remote_code`: whether code that comes with a model may run.
    """

    def __init__(self, *, keep_weights: bool = False, trust_remote_code: bool = False) -> None:
        self._keep_weights = keep_weights
        self.trust_remote_code = trust_remote_code
        self._cache = Cache(cache_folder())
        self._data: dict[str, RawData] = {}
        self._material: dict[str, Material] = {}
        self._weights: dict[str, Weights] = {}

    def data(self, recipe: Recipe) -> RawData:
        """Reads and checks every split that the recipe names; raises DataError."""
        key = recipe.model_dump_json(include={"data", "task"})
        if key not in self._data:
            self._data[key] = _read_data(recipe, self._cache)
        return self._data[key]

    def material(self, recipe: Recipe) -> Material:
        """Encodes every split; raises ModelError where the tokenizer or the image processor can't be had."""
        key = recipe.model_dump_json(include={"data", "task", "model"})
        if key not in self._material:
            self._material[key] = _encode(recipe, self.data(recipe), self._source(recipe), self._cache)
        return self._material[key]

    def model(self, recipe: Recipe) -> LoadedModel:
        """Returns the recipe's model, pretrained, under a head and with an adapter, if any, of the recipe's seed.

        Raises ModelError, and SettingError where the adapter doesn't fit the model.
        """
        loaded = self._pretrained(recipe)
        if recipe.adapter is not None:
            from finetune.training.adapters import add_adapter

            add_adapter(loaded, recipe.adapter, seed=recipe.training.seed)
        return loaded

    def _pretrained(self, recipe: Recipe) -> LoadedModel:
        from finetune.tasks.pretrained import Weights

        material, seed = self.material(recipe), recipe.training.seed
        source = self._source(recipe)
        key = repr((recipe.model_dump_json(include={"task", "model"}), material.classes, source.dropout))
        if key in self._weights:
            return self._weights[key].load(seed=seed)
        loaded = recipe.task.load_model(source, classes=material.classes, processor=material.processor, seed=seed)
        if self._keep_weights:
            self._weights[key] = Weights.of(loaded)
        return loaded

    def _source(self, recipe: Recipe) -> Pretrained:
        """Returns where the recipe's model is; raises ModelError where a local folder isn't a model's."""
        from finetune.tasks.pretrained import Pretrained

        model = recipe.model
        source = Pretrained(
            str(model.path or model.hub),
            revision=model.revision,
            local=model.path is not None,
            trust_remote_code=self.trust_remote_code,
            dropout=recipe.regularisation.dropout if recipe.regularisation else None,
        )
        source.check()
        return source


def _read_data(recipe: Recipe, cache: Cache) -> RawData:
    splits = {split: _drawn(rows, split, recipe) for split, rows in load_rows(recipe, cache).items()}
    classes, examples = recipe.task.read(splits)
    fingerprints = {split: recipe.task.fingerprint(rows, examples[split]) for split, rows in splits.items()}
    return RawData(examples, classes, fingerprints, recipe.task.cautions(examples, classes))


def load_rows(recipe: Recipe, cache: Cache) -> dict[str, Rows]:
    """Returns the rows of each split, as they are in its files, folders or data set; raises DataError."""
    data = recipe.data
    if isinstance(data, FileData):
        return load_files(data.files, keep=cache.keep, naming_files=recipe.task.naming_files)
    if isinstance(data, FolderData):
        return load_folders(data.folders)
    return load_hub(data.hub, configuration=data.config, revision=data.revision, splits=data.splits)


def check_classes(recipe: Recipe, classes: Sequence[str]) -> None:
    """Raises SettingError for a setting that doesn't fit the classes that the data has."""
    with settings_within("evaluation"):
        check_classes_of_metrics(recipe.evaluation.scored_by, classes)
    if recipe.regularisation is not None:
        recipe.regularisation.check_classes(classes)


def _drawn(rows: Rows, split: str, recipe: Recipe) -> Rows:
    count = next((count for name, count in recipe.data.examples.items() if name == split), None)
    if split == "train" or count is None or count >= len(rows):
        return rows
    return rows.select(draw(len(rows), count, seed=EVALUATED))


def draw(size: int, count: int, *, seed: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Returns `count` of the numbers 0 … `size` − 1, ascending, drawn by `seed`; fewer are among more."""
    return np.sort(np.random.default_rng([seed, DRAWING]).permutation(size)[:count])


def training_examples(recipe: Recipe, material: Material) -> Split:
    """Returns the examples that the recipe's seed draws from the train split."""
    train = material.splits["train"]
    count = recipe.data.examples.get("train", len(train))
    return train if count >= len(train) else train.select(draw(len(train), count, seed=recipe.training.seed))


def _encode(recipe: Recipe, data: RawData, source: Pretrained, cache: Cache) -> Material:
    processor = recipe.task.load_processor(source)
    splits = {
        split: recipe.task.encode(examples, processor, fingerprint=data.fingerprints[split], keep=cache.keep)
        for split, examples in data.examples.items()
    }
    for split, encoded in splits.items():
        encoded.check(split)
    identities = {
        split: SplitIdentity(
            fingerprint=data.fingerprints[split],
            count=recipe.task.examples_in(encoded),
            truncated=encoded.truncated,
        )
        for split, encoded in splits.items()
    }
    return Material(splits, data.classes, identities, processor, data.cautions, not_kept=cache.fault)


def describe_source(recipe: Recipe) -> str:
    """Returns the model's name as people know it: its repository, or its folder's name."""
    return Path(recipe.model.path).name if recipe.model.path else str(recipe.model.hub)
