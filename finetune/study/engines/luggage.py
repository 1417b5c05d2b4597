"""Folders of runs on their way between machines that share none."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from finetune.evaluation.record import RECIPE, RECORD, read_record, write_atomically, write_record
from finetune.recipe import Recipe
from finetune.training.run_lock import LOCK
from finetune.training.whole_folders import replace_folder


def pack(folder: Path) -> bytes:
    """Returns the content of a folder in one piece."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.add(folder, arcname=".", filter=lambda entry: None if Path(entry.name).name == LOCK else entry)
    return content.getvalue()


def unpack(content: bytes, folder: Path) -> None:
    """Makes `folder` of what `pack` returned, in place of what was there: whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)

    def extract(aside: Path) -> None:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            archive.extractall(aside, filter="data")

    replace_folder(folder, extract)


def restore_places(run: Path, recipe: Recipe) -> None:
    """Has a run that was made of `recipe` in another place say what it would have said in its own."""
    text = recipe.to_yaml()
    write_atomically(run / RECIPE, lambda path: path.write_text(text, encoding="utf-8"))
    if (run / RECORD).exists():
        write_record(run, read_record(run).model_copy(update={"recipe": recipe.to_dict()}))
