"""What a recipe holds: one frozen class per block, strict in its types and its keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    Discriminator,
    Field,
    PlainSerializer,
    PlainValidator,
    SerializerFunctionWrapHandler,
    Tag,
    field_validator,
    model_serializer,
    model_validator,
)

from finetune.errors import SettingError, did_you_mean, settings_within
from finetune.keys import differences, flatten
from finetune.metrics import HUB, METRICS, check_metric, greater_is_better
from finetune.optimizers import OPTIMIZERS, OptimizerSettings
from finetune.recipe.adapter import Adapter
from finetune.recipe.blocks import STRICT, Interval, PositiveInt, check_pattern
from finetune.recipe.layers import LayerSettings
from finetune.recipe.names import Configuration, FolderName, LocalPath, LocalPathText, Repository, Revision
from finetune.recipe.nodes import read_scalar
from finetune.recipe.regularisation import Averaging, EarlyStopping, Regularisation
from finetune.schedules import DurationLike, Schedule, as_schedule, make_schedule, parse_duration, schedule_for
from finetune.tasks import Task, TextClassification, as_task

Split = Literal["train", "validation", "test"]
Tracker = Literal["tensorboard", "trackio", "mlflow", "wandb"]
NEEDED_SPLITS: tuple[Split, ...] = ("train", "validation")

Seed = Annotated[int, Field(ge=0, lt=2**32)]


def check_run_length(value: DurationLike) -> DurationLike:
    # How much an update takes is known when the data is, and doesn't matter here.
    parse_duration(value, field="duration").run_steps(updates_per_epoch=1, samples_per_update=1, tokens_per_update=1)
    return value


OnRequest = Annotated[bool | None, AfterValidator(lambda value: value or None)]
"""A setting that is off, which leaves recipes the runs that they had before there was one, unless it is true."""
RunLength = Annotated[DurationLike, AfterValidator(check_run_length)]


class Block(BaseModel):
    """What all blocks share."""

    model_config = STRICT


class ModelSource(Block):
    """The pretrained model: a repository on the Hub at a revision, or a local folder."""

    hub: Repository | None = None
    path: LocalPath | None = None
    revision: Revision | None = None

    @model_validator(mode="after")
    def _one_place(self) -> ModelSource:
        if (self.hub is None) == (self.path is None):
            raise ValueError("give one of hub (a repository) and path (a folder)")
        if self.path is not None and self.revision is not None:
            raise SettingError("revision", "goes with hub; a folder has none")
        return self


def _check_splits(splits: Mapping[Split, Any]) -> None:
    for split in NEEDED_SPLITS:
        if split not in splits:
            raise SettingError(split, "required, and missing")


class Data(Block):
    """`examples`: how many of a split are used, at most, drawn at random; all of one that isn't named.

    Those of train are drawn anew by each training.seed, and fewer are among more; those of the other splits are always
    the same, so that scores can be compared.
    """

    examples: dict[Split, PositiveInt] = {}


class FileData(Data):
    """Local files, one or more to a split."""

    files: dict[Split, tuple[LocalPath, ...]]

    @field_validator("files")
    @classmethod
    def _complete(cls, files: dict[Split, tuple[Path, ...]]) -> dict[Split, tuple[Path, ...]]:
        _check_splits(files)
        for split, paths in files.items():
            if not paths:
                raise SettingError(split, "names no file")
        return files


class FolderData(Data):
    """Local folders of images, one to a split, each with a sub-folder for every class."""

    folders: dict[Split, LocalPath]

    @field_validator("folders")
    @classmethod
    def _complete(cls, folders: dict[Split, Path]) -> dict[Split, Path]:
        _check_splits(folders)
        return folders


class HubData(Data):
    """A data set on the Hub, or in its cache; `splits` gives its name for each of our splits."""

    hub: Repository
    config: Configuration | None = None
    revision: Revision | None = None
    splits: dict[Split, str] = {"train": "train", "validation": "validation"}

    @field_validator("splits")
    @classmethod
    def _complete(cls, splits: dict[Split, str]) -> dict[Split, str]:
        _check_splits(splits)
        return splits


LOCAL_DATA: dict[str, type[Data]] = {"files": FileData, "folders": FolderData}
"""The kinds of data on this machine, by the key that tells each."""


def data_kind(value: Any) -> str:
    """Returns the key by which a block of data, or its plain values, is known: files, folders or hub."""
    for key, kind in LOCAL_DATA.items():
        if isinstance(value, kind) or (isinstance(value, dict) and key in value):
            return key
    return "hub"


class TrainingSettings(Block):
    """`batch_size` counts the examples of one update over all processes; `micro_batch_size` limits those in memory.

    `on_non_finite`: what happens where a loss or a gradient isn't finite. "stop" ends the run as diverged; "skip"
    leaves the update out, and the schedule where it is, for which a GPU is waited for in every update; "continue" goes
    on regardless, and the run counts as diverged if its last loss isn't finite either.
    `on_out_of_memory`: "halve" cuts micro-batches in half from there on, the batch of an update staying as it is.
    `compile`: compiles the model's blocks; `cuda_graphs`: has a GPU replay its passes without waiting for Python;
    `fast_dropout`: has a CPU draw the masks of dropout many at a time, other ones than it would draw.
    """

    duration: RunLength = "3ep"
    batch_size: PositiveInt = 32
    micro_batch_size: PositiveInt | None = None
    gradient_clipping: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = 1.0
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    seed: Seed = 0
    workers: Annotated[int, Field(ge=0, le=256)] = 0
    on_non_finite: Literal["stop", "skip", "continue"] = "stop"
    on_out_of_memory: Literal["stop", "halve"] = "stop"
    compile: OnRequest = None
    cuda_graphs: OnRequest = None
    fast_dropout: OnRequest = None

    @model_validator(mode="after")
    def _consistent(self) -> TrainingSettings:
        if self.micro_batch_size is not None and self.micro_batch_size > self.batch_size:
            raise SettingError(
                "micro_batch_size", f"{self.micro_batch_size} is more than batch_size, {self.batch_size}"
            )
        return self


class ParameterGroup(Block):
    """Parameters whose names `parameters`, a regular expression, is found in, with a peak and a schedule of their own.

    `schedule`: one of their own, or settings in place of the recipe's, such as {floor: 0.1}.
    """

    parameters: str
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    schedule: str | dict[str, Any] | None = None

    @field_validator("parameters")
    @classmethod
    def _compiles(cls, parameters: str) -> str:
        return check_pattern(parameters)


def check_known(metric: str) -> str:
    if metric not in METRICS and not metric.startswith(HUB):
        raise SettingError("", f'"{metric}" is not one of {", ".join(METRICS)}{did_you_mean(metric, METRICS)}')
    return metric


class EvaluationSettings(Block):
    """`every`: a duration, null for at the end alone; `select`: the one of `metrics` that ranks models.

    `early_stopping`: ends the run where evaluations get no better: `EarlyStopping`. In a recipe, metrics that aren't
    given are those of its task, and the first of them selects.
    """

    every: Interval | None = "1ep"
    metrics: tuple[Annotated[str, AfterValidator(check_known)], ...] | None = None
    select: str | None = None
    keep: Literal["best", "last"] = "best"
    batch_size: PositiveInt = 64
    early_stopping: EarlyStopping | None = None

    @model_validator(mode="after")
    def _consistent(self) -> EvaluationSettings:
        if self.early_stopping is not None and self.every is None:
            raise SettingError("early_stopping", "counts evaluations, and every: null makes none before the end")
        if self.metrics is not None:
            if not self.metrics:
                raise SettingError("metrics", "names none: give one, or leave metrics out for the task's own")
            if len(set(self.metrics)) < len(self.metrics):
                raise SettingError("metrics", f"{', '.join(self.metrics)} names one twice")
            self._check_selecting(self.metrics)
        return self

    def _check_selecting(self, metrics: Sequence[str]) -> None:
        if self.select is not None and self.select not in metrics:
            choices = f"{', '.join(metrics)}{did_you_mean(self.select, metrics)}"
            raise SettingError("select", f'"{self.select}" is none of evaluation.metrics: {choices}')

    def of(self, task: Task) -> EvaluationSettings:
        """Returns the same, complete, for `task`; raises SettingError for metrics that can't score it."""
        metrics = self.metrics or task.metrics
        for name in metrics:
            check_metric(name, task.form)
        self._check_selecting(metrics)
        select = self.select or metrics[0]
        greater_is_better(select)  # which the Hub's metrics don't say
        return self.model_copy(update={"metrics": metrics, "select": select})

    @property
    def scored_by(self) -> tuple[str, ...]:
        """The metrics of a recipe, in which they are complete."""
        assert self.metrics is not None  # noqa: S101 - a recipe completes its settings
        return self.metrics

    @property
    def selecting(self) -> str:
        """The metric that ranks models, of a recipe."""
        assert self.select is not None  # noqa: S101 - a recipe completes its settings
        return self.select


class CheckpointSettings(Block):
    """`every`: a duration, null for none; `keep`: how many of the newest."""

    every: Interval | None = "1ep"
    keep: PositiveInt = 1


AnySchedule = Annotated[Schedule, PlainValidator(as_schedule), PlainSerializer(Schedule.to_dict)]

AnyTask = Annotated[Task, PlainValidator(as_task), PlainSerializer(Task.to_dict)]

if TYPE_CHECKING:
    AnyOptimizer = OptimizerSettings
else:
    AnyOptimizer = Annotated[Union[tuple(OPTIMIZERS.values())], Discriminator("name")]  # noqa: UP007


class Recipe(Block):
    """One fine-tuning run, complete and checked. Made by `load_recipe`."""

    name: FolderName
    task: AnyTask = TextClassification()
    model: ModelSource
    data: Annotated[
        Annotated[FileData, Tag("files")] | Annotated[FolderData, Tag("folders")] | Annotated[HubData, Tag("hub")],
        Discriminator(data_kind),
    ]
    schedule: AnySchedule = make_schedule("cosine")
    optimizer: AnyOptimizer
    adapter: Adapter | None = None
    groups: dict[Annotated[str, Field(pattern=r"^\w+$")], ParameterGroup] = {}
    layers: LayerSettings | None = None
    regularisation: Regularisation | None = None
    averaging: Averaging | None = None
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    checkpoints: CheckpointSettings = CheckpointSettings()
    output: LocalPathText = "runs"
    tracking: tuple[Tracker, ...] = ()
    plugins: tuple[LocalPath, ...] = ()

    @field_validator("tracking")
    @classmethod
    def _no_tracker_twice(cls, tracking: tuple[Tracker, ...]) -> tuple[Tracker, ...]:
        if len(set(tracking)) < len(tracking):
            raise SettingError("tracking", f"{', '.join(tracking)} names one twice")
        return tracking

    @field_validator("layers")
    @classmethod
    def _layers_or_none(cls, layers: LayerSettings | None) -> LayerSettings | None:
        return None if layers == LayerSettings() else layers

    @model_validator(mode="after")
    def _layers_beside_the_rest(self) -> Recipe:
        if self.layers and self.layers.unfreeze and self.training.cuda_graphs:
            raise SettingError(
                "layers.unfreeze",
                "can't be had with training.cuda_graphs, whose passes are fixed once: leave out one of them",
            )
        return self

    @model_validator(mode="after")
    def _one_says_what_is_trained(self) -> Recipe:
        if self.adapter is not None and self.layers is not None:
            raise SettingError("layers", "doesn't go with adapter, which says what is trained: leave out one of them")
        return self

    @field_validator("regularisation")
    @classmethod
    def _regularisation_or_none(cls, regularisation: Regularisation | None) -> Regularisation | None:
        return None if regularisation == Regularisation() else regularisation

    @model_validator(mode="after")
    def _regularisation_of_the_task(self) -> Recipe:
        if self.regularisation is not None:
            with settings_within("regularisation"):
                self.regularisation.check_task(self.task)
        if self.evaluation.early_stopping is not None and self.training.on_non_finite == "continue":
            raise SettingError(
                "evaluation.early_stopping",
                "can't be had with training.on_non_finite: continue, by which the last planned update tells whether "
                "a run diverged; leave out one of them",
            )
        return self

    @model_validator(mode="after")
    def _metrics_of_the_task(self) -> Recipe:
        with settings_within("evaluation"):
            object.__setattr__(self, "evaluation", self.evaluation.of(self.task))
        return self

    @model_validator(mode="after")
    def _group_schedules(self) -> Recipe:
        for name in {"decay", "no_decay"} & self.groups.keys():
            raise SettingError(f"groups.{name}", "is the name of a group that all parameters are in; choose another")
        for name in self.groups:
            with settings_within(f"groups.{name}.schedule"):
                self.schedule_of(name)
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_left_out(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves `adapter` out where there is none, so that versions before it read such recipes too."""
        plain: dict[str, Any] = serialize(self)
        return {key: value for key, value in plain.items() if key != "adapter" or value is not None}

    def schedule_of(self, group: str) -> Schedule:
        """Returns the schedule of one of `groups`."""
        own = self.groups[group].schedule
        return self.schedule if own is None else schedule_for(self.schedule, own)

    def to_dict(self) -> dict[str, Any]:
        """Returns the recipe as plain values, defaults included."""
        return self.model_dump(mode="json")

    def flatten(self) -> dict[str, Any]:
        """Returns each dotted key with its plain value, defaults included."""
        return flatten(self.to_dict())

    def to_yaml(self) -> str:
        """Returns YAML that `load_recipe` reads back as an equal recipe."""
        return yaml.dump(self.to_dict(), Dumper=_Dumper, sort_keys=False, allow_unicode=True)

    def differences(self, other: Recipe) -> dict[str, tuple[Any, Any]]:
        """Returns each dotted key whose value differs, with this recipe's value and the other's; None where absent."""
        return differences(self.flatten(), other.flatten())


class _Dumper(yaml.SafeDumper):
    """Quotes a text that `read_scalar` would take for something else."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if read_scalar(text) == text else '"')


_Dumper.add_representer(str, _represent_text)
