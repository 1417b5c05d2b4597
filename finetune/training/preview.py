"""Looks at a run or a study before it begins: at everything that can be known without torch and the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune.data import CHUNK
from finetune.evaluation.record import RECIPE, RECORD, read_record
from finetune.recipe import Recipe, Study
from finetune.tasks.model_folder import CONFIG, check_length, check_location, number_in
from finetune.tasks.tensor_names import tensor_names
from finetune.tasks.token_lengths import read_tokenizer, token_lengths
from finetune.training.adapters import check_adapter
from finetune.training.checkpoints import newest_checkpoint, read_identity
from finetune.training.layers import check_blocks, count_blocks
from finetune.training.layout import Horizon, plan_horizon
from finetune.training.material import Library, RawData, check_classes, draw
from finetune.training.outlook import Lengths, Outlook, RunState, Sizes, SplitOutlook, StudyOutlook, Tokens
from finetune.training.run_directory import run_directory
from finetune.training.run_lock import is_held
from finetune.training.rungs import lay_out_rungs
from finetune.training.tracking import check_trackers

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from finetune.tasks.base import Outline

Texts = tuple[Sequence[str], ...]

MOST_TOKENIZED = 500
"""How many texts of a split are tokenised to say how long they are."""


@dataclass(frozen=True)
class DataOutlook:
    """The data of a run, read and checked; `tokenizer`: the model's, if it lies in a folder."""

    raw: RawData
    splits: Mapping[str, SplitOutlook]
    tokenizer: Tokenizer | None


def preview_run(recipe: Recipe, *, source: Path) -> Outlook:
    """Returns what the run of `recipe`, read from the file `source`, will do.

    Raises FinetuneError for what a run is refused for before its model is loaded.
    """
    check_trackers(recipe.tracking)
    check_adapter(recipe.adapter)
    return _outlook(recipe, source=source, data=_look_at_data(recipe, Library()))


def preview_study(study: Study, *, source: Path) -> StudyOutlook:
    """Returns what the study, read from the file `source`, will do; raises as `preview_run` does."""
    check_trackers(study.settings[0].recipe.tracking)
    for setting in study.settings:
        check_adapter(setting.recipe.adapter)
    library, known = Library(), dict[str, DataOutlook]()
    settings, rungs = [], []
    for setting in study.settings:
        key = setting.recipe.model_dump_json(include={"data", "task", "model"})
        if key not in known:
            known[key] = _look_at_data(setting.recipe, library)
        settings.append(_outlook(setting.recipe, source=source, data=known[key]))
        lay_out = partial(_horizon, data=known[key])
        rungs.append(tuple(lay_out_rungs(setting.recipe, study.rungs, lay_out=lay_out)))
    directory = settings[0].run.parent
    places = (f"*/{RECORD}", f"tuning/*/{RECORD}", f"tuning/rung*/*/{RECORD}")
    recorded = sum(1 for pattern in places for _ in directory.glob(pattern))
    return StudyOutlook(study, tuple(settings), directory, recorded, tuple(rungs))


def _outlook(recipe: Recipe, *, source: Path, data: DataOutlook) -> Outlook:
    check_classes(recipe, data.raw.classes)
    run = run_directory(recipe, source=source)
    outlook = Outlook(
        recipe, run, _found(run, data.raw), data.splits, data.raw.cautions, _horizon(recipe, data), _blocks(recipe)
    )
    _ = outlook.layers  # whose rates may not fit the schedule
    return outlook


def _blocks(recipe: Recipe) -> int | None:
    """Returns how many blocks the model has, which the recipe's layers must fit; None where that isn't needed."""
    if recipe.layers is None or recipe.model.path is None:
        return None
    blocks = count_blocks(tensor_names(recipe.model.path))
    check_blocks(recipe.layers, blocks)
    return blocks


def _look_at_data(recipe: Recipe, library: Library) -> DataOutlook:
    folder = _model_folder(recipe)
    raw = library.data(recipe)
    tokenizer = None if folder is None else read_tokenizer(folder)
    return DataOutlook(raw, {split: _split(recipe, split, raw, tokenizer) for split in raw.examples}, tokenizer)


def _model_folder(recipe: Recipe) -> Path | None:
    """Returns the model's folder, checked; None for a repository, which is checked when it is read."""
    model = recipe.model
    check_location(str(model.path or model.hub), local=model.path is not None)
    if model.path is None:
        return None
    length = recipe.task.longest
    if length is None:
        return None
    tokenizer = number_in(model.path / "tokenizer_config.json", "model_max_length")
    positions = number_in(model.path / CONFIG, "max_position_embeddings")
    check_length(str(model.path), length, tokenizer=length if tokenizer is None else tokenizer, positions=positions)
    return model.path


def _split(recipe: Recipe, split: str, data: RawData, tokenizer: Tokenizer | None) -> SplitOutlook:
    outline = recipe.task.outline(data.examples[split], data.classes)
    count = outline.count
    drawn = split == "train" and recipe.task.one_to_one
    used = min(count, recipe.data.examples.get("train", count)) if drawn else count
    shown = SplitOutlook(examples=count, used=used, classes=dict(outline.shares))
    if outline.sizes is not None:
        return replace(shown, sizes=Sizes.of(outline.sizes))
    if not outline.texts:
        return shown
    characters, words = _characters_and_words(outline.texts)
    longest = recipe.task.longest
    tokens = None
    if tokenizer is not None and longest is not None:
        tokens = _tokens(outline, longest if recipe.task.one_to_one else None, tokenizer)
    return replace(shown, characters=characters, words=words, tokens=tokens)


def _characters_and_words(texts: Texts) -> tuple[Lengths, Lengths]:
    whole = texts[0] if len(texts) == 1 else map(" ".join, zip(*texts, strict=True))
    lengths = np.fromiter(((len(text), len(text.split())) for text in whole), dtype=np.dtype((np.int64, 2)))
    return Lengths.of(lengths[:, 0]), Lengths.of(lengths[:, 1])


def _tokens(outline: Outline, longest: int | None, tokenizer: Tokenizer) -> Tokens:
    """Returns the lengths of examples that are cut to `longest` tokens, or where it is None aren't cut."""
    count = len(outline.texts[0])
    rows = range(0, count, -(-count // MOST_TOKENIZED))
    lengths = _lengths_of(outline, rows, tokenizer)
    cut = 0 if longest is None else sum(length > longest for length in lengths)
    return Tokens(Lengths.of(lengths), len(lengths), cut)


def _lengths_of(outline: Outline, rows: Sequence[int], tokenizer: Tokenizer) -> list[int]:
    lengths: list[int] = []
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        first, *second = ([part[row] for row in chunk] for part in outline.texts)
        lengths += token_lengths(tokenizer, first, second[0] if second else None)
    return [length + outline.added for length in lengths]


def _horizon(recipe: Recipe, data: DataOutlook) -> Horizon | None:
    if not recipe.task.one_to_one:
        return None
    samples, tokens = data.splits["train"].used, 0
    if _counts_tokens(recipe.to_dict()):
        outline = recipe.task.outline(data.raw.examples["train"], data.raw.classes)
        if data.tokenizer is None or recipe.task.longest is None or not outline.texts:
            return None
        tokens = _train_tokens(recipe, outline, samples, data.tokenizer)
    updates = -(-samples // recipe.training.batch_size)
    return plan_horizon(recipe, updates_per_epoch=updates, samples=samples, tokens=tokens)


def _counts_tokens(value: Any) -> bool:
    """Whether a duration in tokens is among the values of a recipe."""
    if isinstance(value, dict):
        return any(map(_counts_tokens, value.values()))
    if isinstance(value, list):
        return any(map(_counts_tokens, value))
    return isinstance(value, str) and value.rstrip().endswith("tokens")


def _train_tokens(recipe: Recipe, outline: Outline, samples: int, tokenizer: Tokenizer) -> int:
    """Returns the tokens of an epoch, each example cut to what the task keeps."""
    longest = recipe.task.longest
    rows = draw(outline.count, samples, seed=recipe.training.seed)
    each = outline.sequences
    lengths = _lengths_of(outline, (rows[:, None] * each + np.arange(each)).reshape(-1).tolist(), tokenizer)
    longest_of_each = np.reshape(lengths, (-1, each)).max(axis=1)
    return int((longest_of_each if longest is None else longest_of_each.clip(max=longest)).sum())


def _found(run: Path, data: RawData) -> RunState:
    if is_held(run):
        return RunState("running")
    if (run / RECORD).exists():
        was = {split: identity.fingerprint for split, identity in read_record(run).identity.data.items()}
        return RunState("recorded", changed=_changed(was, data))
    checkpoint = newest_checkpoint(run, say=lambda line: None)
    if checkpoint is not None:
        return RunState("interrupted", checkpoint.step, _changed(read_identity(run)["data"], data))
    return RunState("begun" if (run / RECIPE).exists() else "new")


def _changed(was: Mapping[str, str], data: RawData) -> tuple[str, ...]:
    return tuple(split for split, fingerprint in data.fingerprints.items() if was.get(split) != fingerprint)
