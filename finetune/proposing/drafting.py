"""A recipe's text, with comments that say why each setting is as it is, and the data files that it needs."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from finetune.data import Rows, load_files
from finetune.errors import DataError, SettingError, did_you_mean
from finetune.proposing.splitting import SHARES, split_rows
from finetune.proposing.tasks import LOOK, Proposal, propose_task, shares
from finetune.recipe.nodes import read_scalar
from finetune.schedules import make_schedule
from finetune.tasks import TASKS, as_task
from finetune.tasks.model_folder import CONFIG, check_location, number_in
from finetune.tasks.token_lengths import read_tokenizer, token_lengths

COVERED = 0.99
"""The share of texts that keep all their tokens."""
MULTIPLE, LEAST_LENGTH = 8, 32
BATCH, SMALL_BATCH, LONG = 32, 16, 256
LEAST_UPDATES, EPOCHS, MOST_EPOCHS = 200, 3, 10
LARGE_RATE, SMALL_RATE, SMALL_WIDTH = 2e-5, 1e-4, 512


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What the recipe is to be for. `files`: those of each split, or of train alone, which are then split.

    `model`: a folder or a repository. What is None is found in the data. `compare`: schedules to be compared by a study
    on `seeds` seeds; the first of them is the recipe's own.
    """

    files: Mapping[str, Sequence[Path]]
    model: str
    task: str | None = None
    text: str | None = None
    label: str | None = None
    compare: Sequence[str] = ("cosine",)
    optimizer: str = "adamw"
    learning_rate: float | None = None
    seeds: int = 6

    @property
    def folder(self) -> Path | None:
        """The model's folder; None for a repository."""
        folder = Path(self.model).expanduser()
        return folder if folder.is_dir() or self.model.startswith((".", "/", "~")) else None


@dataclass(frozen=True)
class Draft:
    """The text of a recipe at `path`; `tables`: the files of splits that it names and that are to be written first."""

    path: Path
    text: str
    tables: Mapping[Path, Rows] = field(default_factory=dict)

    def write(self) -> None:
        """Writes the tables and the recipe; raises SettingError where they can't be written."""
        from pyarrow import parquet

        try:
            for path, rows in self.tables.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                parquet.write_table(rows.table, path)
            self.path.write_text(self.text, encoding="utf-8")
        except OSError as error:
            raise SettingError("RECIPE", f"{self.path}: can't be written: {error.strerror or error}") from error


def draft_recipe(path: Path, wishes: Wishes) -> Draft:
    """Returns the recipe proposed for `wishes`, to be written to `path`, relative to which it names its files.

    Raises FinetuneError for data or a model that can't be read, and where nothing tells what the data is for.
    """
    if wishes.task is not None and wishes.task not in TASKS:
        choices = f"{', '.join(TASKS)}{did_you_mean(wishes.task, TASKS)}"
        raise SettingError("--task", f'"{wishes.task}" is not one of {choices}')
    check_location(str(wishes.folder or wishes.model), local=wishes.folder is not None)
    splits = load_files(wishes.files)
    proposal = propose_task(splits["train"], task=wishes.task, text=wishes.text, label=wishes.label)
    folder, tables = Path(f"{path.stem}_data"), dict[Path, Rows]()
    files = {split: [_seen_from(path.parent, file) for file in those] for split, those in wishes.files.items()}
    if "validation" not in splits:
        if not proposal.inputs:
            raise SettingError("--validation", f"data for {proposal.settings['name']} isn't split here: give its file")
        _check_whole(proposal, splits["train"], wishes.files["train"])
        splits = split_rows(splits["train"], proposal.inputs, label=proposal.label, shares=SHARES)
        tables = {path.parent / folder / f"{split}.parquet": rows for split, rows in splits.items()}
        files = {split: [f"{folder}/{split}.parquet"] for split in splits}
    lengths = _lengths(wishes, splits["train"], proposal)
    lines = [
        *_header(path, wishes, splits, proposal),
        *_task_and_model(path, wishes, proposal, lengths),
        *_data(files, made=bool(tables)),
        *_training(path, wishes, splits["train"], longest=lengths.chosen if lengths else proposal.longest),
    ]
    return Draft(path, "\n".join(lines) + "\n", tables)


def _check_whole(proposal: Proposal, rows: Rows, files: Sequence[Path]) -> None:
    """Raises DataError for what the task refuses in `rows` as they are in `files`, where the user can find it."""
    try:
        as_task(dict(proposal.settings)).read({"train": rows})
    except DataError as error:
        raise DataError(str(error).replace("the train split", ", ".join(map(str, files)))) from error


def _seen_from(folder: Path, file: Path) -> str:
    """Returns a path that was given from here as one from `folder`; an absolute one stays."""
    file = file.expanduser()
    return (file if file.is_absolute() else Path(os.path.relpath(file.absolute(), folder))).as_posix()


def _header(path: Path, wishes: Wishes, splits: Mapping[str, Rows], proposal: Proposal) -> Iterator[str]:
    counts = ", ".join(f"{len(rows):,} {split}" for split, rows in splits.items())
    yield f"# Proposed by finetune new from {counts} examples: {proposal.why}."
    if proposal.label:
        labels = shares(splits["train"].values(proposal.label))
        shown = ", ".join(f"{name} {share:.0%}" for name, share in labels[:5])
        yield f"# Classes of train: {shown}{f' and {len(labels) - 5} more' if len(labels) > 5 else ''}."
    yield f"# See:     finetune check {_as_typed(path)}"
    yield f"# Run:     finetune run {_as_typed(path)}"
    if len(wishes.compare) > 1:
        yield f"# Compare: finetune study {_as_typed(path)}"


def _as_typed(path: Path) -> str:
    """Returns a path as it is typed from here: relative where it is here or below."""
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))


def _task_and_model(path: Path, wishes: Wishes, proposal: Proposal, lengths: _Lengths | None) -> Iterator[str]:
    yield "task:"
    for name, value in proposal.settings.items():
        yield f"  {name}: {_yaml(value)}"
    if lengths is not None:
        yield f"  max_length: {lengths.chosen}  # {lengths.why}"
    yield "model:"
    if wishes.folder is None:
        yield f"  hub: {_yaml(wishes.model)}"
    else:
        yield f"  path: {_yaml(_seen_from(path.parent, wishes.folder))}"


@dataclass(frozen=True)
class _Lengths:
    """The `max_length` chosen by how many tokens texts have, and why."""

    chosen: int
    why: str


def _lengths(wishes: Wishes, rows: Rows, proposal: Proposal) -> _Lengths | None:
    """Returns None where the default of the task is as good as any, or nothing can tell."""
    texts = [name for name in (proposal.settings.get("text"), proposal.settings.get("text_pair")) if name]
    if not texts or proposal.settings["name"].endswith("language_modelling") or wishes.folder is None:
        return None
    tokenizer = read_tokenizer(wishes.folder)
    if tokenizer is None:
        return None
    first, *second = ([value or "" for value in rows.column(name)[:LOOK]] for name in texts)
    lengths = sorted(token_lengths(tokenizer, first, second[0] if second else None))
    covering = lengths[math.ceil(COVERED * len(lengths)) - 1]
    positions = number_in(wishes.folder / CONFIG, "max_position_embeddings") or covering
    chosen = min(max(LEAST_LENGTH, MULTIPLE * math.ceil(covering / MULTIPLE)), positions)
    share = sum(length <= chosen for length in lengths) / len(lengths)
    part = "all" if share == 1 else f"{share:.1%} of the"
    return _Lengths(chosen, f"tokens: {part} texts looked at have no more, the longest {lengths[-1]}")


def _data(files: Mapping[str, Sequence[str]], *, made: bool) -> Iterator[str]:
    yield "data:"
    if made:
        yield "  # Split by content: equal texts are together, and each class has its share of each split."
    yield "  files:"
    for split, those in files.items():
        yield f"    {split}: {_yaml(those[0] if len(those) == 1 else list(those))}"


def _training(path: Path, wishes: Wishes, train: Rows, *, longest: int | None) -> Iterator[str]:
    batch = SMALL_BATCH if longest and longest > LONG else BATCH
    updates = -(-len(train) // batch)
    epochs = min(MOST_EPOCHS, max(EPOCHS, -(-LEAST_UPDATES // updates)))
    width = None if wishes.folder is None else number_in(wishes.folder / CONFIG, "hidden_size")
    usual = SMALL_RATE if width and width <= SMALL_WIDTH else LARGE_RATE
    rate, why = wishes.learning_rate, "as asked for"
    if rate is None:
        rate, why = usual, "usual for a model of this size"
    yield "schedule:"
    yield f"  name: {wishes.compare[0]}"
    if _warms_up(wishes.compare[0]):
        yield "  warmup: 10%"
    yield "optimizer:"
    yield f"  name: {wishes.optimizer}"
    yield f"  learning_rate: {rate:g}  # the peak: {why}; finetune lr-find {_as_typed(path)} looks for a better one"
    yield "training:"
    yield f"  duration: {epochs}ep  # {updates * epochs:,} updates"
    yield f"  batch_size: {batch}"
    yield "evaluation:"
    yield "  every: 1ep"
    if len(wishes.compare) > 1:
        yield "study:"
        yield "  grid:"
        yield "    schedule:"
        for name in wishes.compare:
            yield f"      - {{name: {name}{', warmup: 10%' if _warms_up(name) else ''}}}"
        yield f"    training.seed: {list(range(wishes.seeds))}  # the same for every schedule: differences are paired"
        yield f"  reference: {wishes.compare[0]}"


def _warms_up(schedule: str) -> bool:
    return any(each.name == "warmup" for each in fields(make_schedule(schedule)))


def _yaml(value: Any) -> str:
    """Returns a value as one line of YAML, as JSON is; a text that is read back as itself stays as it is."""
    plain = isinstance(value, str) and re.fullmatch(r"[\w./-]+", value) and read_scalar(value) == value
    return value if plain else json.dumps(value, ensure_ascii=False)
