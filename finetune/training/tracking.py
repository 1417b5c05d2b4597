"""A run as trackers show it: Trainer's own integrations, given the rows of the history."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.errors import SettingError
from finetune.evaluation.record import RECIPE

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from finetune.evaluation.record import Results, StudyPart
    from finetune.training.history import Row
    from finetune.training.plan import Plan
    from finetune.training.trainer import ScheduledTrainer

TENSORBOARD = "tensorboard"


def check_trackers(names: Sequence[str]) -> None:
    """Raises SettingError where one of `names` isn't installed, or is switched off."""
    missing = [name for name in names if not _is_installed(name)]
    if missing:
        verb = "isn't" if len(missing) == 1 else "aren't"
        raise SettingError(
            "tracking",
            f"{', '.join(missing)} {verb} installed: pip install 'finetune-schedules[{','.join(missing)}]'",
        )
    if "mlflow" in names and os.environ.get("DISABLE_MLFLOW_INTEGRATION", "").upper() == "TRUE":
        raise SettingError("tracking", "mlflow is switched off by DISABLE_MLFLOW_INTEGRATION; unset it")


def _is_installed(name: str) -> bool:
    found = find_spec(name)
    return found is not None and found.origin is not None  # a folder such as ./wandb is found too, but has no origin


@dataclass(frozen=True)
class RunLabel:
    """How trackers know a run: `project` holds runs that belong together, `settings` is what was run."""

    project: str
    name: str
    settings: Mapping[str, Any]


def label_run(plan: Plan, *, study: StudyPart | None, started: datetime) -> RunLabel:
    """Returns the label of a run that is about to begin.

    The project is the study or the recipe, the name that of the run's directory, after "tuning-" where the run chooses
    a peak rate. A run begun before has its start appended: trackio would append to the run of that name.
    """
    role = "tuning-" if study is not None and study.role == "tuning" else ""
    attempt = f"-{started:%Y%m%dT%H%M%SZ}" if (plan.run / RECIPE).exists() else ""
    settings = {key: value for key, value in plan.recipe.flatten().items() if value not in (None, [])}
    settings |= {"run": str(plan.run), "total_steps": plan.horizon.total_steps}
    if study is not None:
        settings |= {"study.name": study.name, "study.role": study.role}
    return RunLabel(study.name if study else plan.recipe.name, f"{role}{plan.run.name}{attempt}", settings)


class Tracking:
    """Gives the trackers called `names` what a run measures, by transformers' integrations.

    An update is loss, grad_norm (before clipping), epoch and learning_rate/GROUP of each parameter group, as applied;
    an evaluation is eval_METRIC; the test split is test_METRIC, at the update of the kept model. Numbers that aren't
    finite are NaN. The settings are the label's and the model's configuration, not TrainingArguments, which name a
    schedule that isn't used. The random state is left as it was.

    The integrations are not Trainer's callbacks: it would give them its own logs, with the step at which they are read,
    and end them before the test split. `folder`: of TensorBoard's files; the others keep theirs as their own
    environment variables say. `say`: is told of a tracker that failed on the way, to which nothing more is given.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        trainer: ScheduledTrainer,
        label: RunLabel,
        folder: Path,
        say: Callable[[str], None],
    ) -> None:
        self._names = names
        self._trainer = trainer
        self._project = label.project
        self._arguments = _described(trainer.args, label)
        self._folder = folder
        self._say = say
        self._callbacks: dict[str, Any] = {}
        self._failed: set[str] = set()
        self._joined: set[str] = set()

    @contextmanager
    def during(self) -> Iterator[None]:
        """Opens a run in every tracker and closes it, as failed if an error leaves; joins one that the caller opened.

        Raises SettingError where a tracker can't begin.
        """
        try:
            for name in self._names:
                self._begin(name)
            yield
        except BaseException:
            self._end(exit_code=1)
            raise
        self._end(exit_code=0)

    def write(self, rows: Sequence[Row]) -> None:
        """Gives rows of the history."""
        self._log([(row["step"], _logs(row)) for row in rows])

    def conclude(self, results: Results) -> None:
        """Gives the scores of the kept model on the test split, if there is one."""
        if "test" in results.splits:
            test = results.splits["test"]
            scores = {"loss": test.loss} | {name: score.value for name, score in test.metrics.items()}
            self._log([(results.kept_step, {f"test_{name}": _number(value) for name, value in scores.items()})])

    def _begin(self, name: str) -> None:
        from transformers.integrations.integration_utils import (
            TensorBoardCallback,
            get_reporting_integration_callbacks,
        )

        from finetune.training.random_state import preserved_random_state

        try:
            with preserved_random_state(), _named(self._project):
                if _has_run(name):
                    self._joined.add(name)
                (integration,) = get_reporting_integration_callbacks([name])  # type: ignore[no-untyped-call]
                callback = self._callbacks[name] = integration()
                if isinstance(callback, TensorBoardCallback):
                    callback.logging_dir = str(self._folder)
                callback.on_train_begin(**self._event(step=0))
        except Exception as error:
            raise SettingError("tracking", f"{name} can't begin a run: {error}") from error

    def _log(self, logged: Sequence[tuple[int, dict[str, float]]]) -> None:
        for name, callback in self._callbacks.items():
            if name not in self._failed:
                with self._survived(name):
                    for step, logs in logged:
                        callback.on_log(**self._event(step=step), logs=logs)

    def _end(self, *, exit_code: int) -> None:
        for name, callback in self._callbacks.items():
            with self._survived(name):
                if name == "mlflow" and exit_code and name not in self._joined:
                    import_module(name).end_run("FAILED")
                callback.on_train_end(**self._event(step=self._trainer.state.global_step))
                if name == "wandb" and name not in self._joined:
                    import_module(name).finish(exit_code=exit_code)
        self._callbacks.clear()  # MLflow's, as it goes, ends whatever run is open: another one, later

    @contextmanager
    def _survived(self, name: str) -> Iterator[None]:
        """Lets no error of a tracker end the training, which is on record without it."""
        from finetune.training.random_state import preserved_random_state

        try:
            with preserved_random_state():
                yield
        except Exception as error:  # noqa: BLE001 - whatever its library raises
            self._failed.add(name)
            self._say(f"{name} failed, and shows this run in part: {error}")

    def _event(self, *, step: int) -> dict[str, Any]:
        state = copy.copy(self._trainer.state)
        state.global_step = step
        trainer = self._trainer
        return {"args": self._arguments, "state": state, "control": trainer.control, "model": trainer.model}


def _described(arguments: TrainingArguments, label: RunLabel) -> TrainingArguments:
    """Returns a copy of `arguments` that gives the label's names, and its settings for its own."""
    described = copy.copy(arguments)
    described.project, described.run_name = label.project, label.name
    described.trackio_static_space_id = False  # or the end of every run would make a Space of its own
    described.to_dict = lambda: dict(label.settings)  # type: ignore[method-assign]
    return described


@contextmanager
def _named(project: str) -> Iterator[None]:
    """Names the experiment where the user's environment doesn't; integrations read it there, and MLflow writes it."""
    before = {
        name: os.environ.get(name) for name in ("MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID", "WANDB_PROJECT")
    }
    os.environ.setdefault("WANDB_PROJECT", project)
    if before["MLFLOW_EXPERIMENT_ID"] is None:
        os.environ.setdefault("MLFLOW_EXPERIMENT_NAME", project)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _has_run(name: str) -> bool:
    """Whether this process has a run open already, with the tracker called `name`."""
    if name == "wandb":
        return import_module(name).run is not None
    return name == "mlflow" and import_module(name).active_run() is not None


def _logs(row: Row) -> dict[str, float]:
    if "evaluation" in row:
        logs = {f"eval_{name}": _number(value) for name, value in row["evaluation"].items()}
        for weights, values in row.get("beside", {}).items():
            logs |= {f"eval_{weights}_{name}": _number(value) for name, value in values.items()}
        return logs
    logs = {"loss": _number(row["loss"]), "grad_norm": _number(row["gradient_norm"]), "epoch": row["epoch"]}
    return logs | {f"learning_rate/{group}": rate for group, rate in row["rates"].items()}


def _number(value: float | None) -> float:
    return math.nan if value is None else value
