"""A run that is over and has a model, as its directory says; nothing here loads a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from finetune.errors import FinetuneError, RecordError, SettingError
from finetune.evaluation.record import MODEL, RECORD, RunRecord, read_record
from finetune.recipe.nodes import Node, Place
from finetune.recipe.plugins import run_plugins
from finetune.tasks import Task, as_task


@dataclass(frozen=True)
class FinishedRun:
    """A run's directory, its record, and the task that it was trained for."""

    path: Path
    record: RunRecord
    task: Task

    @property
    def model(self) -> Path:
        """The folder of the model that was kept."""
        return self.path / MODEL

    @property
    def classes(self) -> Sequence[str]:
        """The names of the classes that the model knows; none where there are none."""
        return self.record.identity.classes


def read_finished(run: Path, *, allow_plugins: bool = False) -> FinishedRun:
    """Returns the run in the directory `run`.

    The plugins that its recipe names are run, if `allow_plugins`. Raises RecordError where there is no record, or no
    model to go with it, and for a recipe that this version doesn't know.
    """
    if run.is_dir() and not (run / RECORD).exists() and (others := sorted(run.rglob(RECORD))):
        raise RecordError(f"{run}: holds {len(others):,} runs, and one is needed: give one such as {others[0].parent}")
    if run.name == MODEL and (run.parent / RECORD).exists():
        raise RecordError(f"{run}: is the model of a run; give the run's own directory, {run.parent}")
    record = read_record(run)
    if record.results is None:
        raise RecordError(
            f"{run}: diverged at update {record.diverged_at_step}, so it has no model to trust; run it again with "
            "another rate"
        )
    if not (run / MODEL).is_dir():
        raise RecordError(f"{run}: its {MODEL} folder is gone; finetune run … --repeat makes it anew")
    _run_plugins(run, record, allow_plugins=allow_plugins)
    try:
        return FinishedRun(run, record, as_task(record.recipe.get("task")))
    except (SettingError, ValidationError) as error:
        problem = str(error) if isinstance(error, FinetuneError) else error.errors()[0]["msg"]
        raise RecordError(
            f"{run / RECORD}: its task can't be read: {problem}; did another version write it?"
        ) from error


def _run_plugins(run: Path, record: RunRecord, *, allow_plugins: bool) -> None:
    place = Place(str(run / RECORD))
    plugins = record.recipe.get("plugins") or []
    problems = run_plugins(Node([Node(plugin, place) for plugin in plugins], place), allowed=allow_plugins)
    if problems:
        raise RecordError(f"{run / RECORD}: {problems[0].path}: {problems[0].message}")
