"""What keeps a model from fitting the training examples too closely, and a run steady; all of it off unless asked for.

Each setting is where what it changes is: `regularisation` what an update is made with (its targets, its masks, its
noise), `averaging` which weights are evaluated and kept, `evaluation.early_stopping` what evaluations lead to.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, PlainValidator, model_validator

from finetune.errors import SettingError, did_you_mean, listed
from finetune.recipe.blocks import STRICT, PositiveInt

if TYPE_CHECKING:
    from finetune.recipe.schema import Recipe
    from finetune.tasks import Task

BALANCED: Literal["balanced"] = "balanced"

OffAtZero = AfterValidator(lambda value: value or None)
"""A setting that changes nothing at 0 leaves recipes the runs that they had without it."""
ClassWeights = Literal["balanced"] | Mapping[str, float]


def check_weights(value: Any) -> ClassWeights:
    if value == BALANCED:
        return BALANCED
    if not isinstance(value, Mapping) or not value:
        hint = did_you_mean(value, [BALANCED]) if isinstance(value, str) else ""
        raise SettingError("", f"{value!r} is neither balanced nor a weight for each of some classes{hint}")
    for name, weight in value.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight <= 1e6:
            raise SettingError(str(name), f"{weight!r} is no weight: give a number above 0, and a million at most")
    return {str(name): float(weight) for name, weight in value.items()}


class Regularisation(BaseModel):
    """What an update is made with; evaluations are plain.

    `label_smoothing`: ε, the share of each label that is spread evenly over all classes (Szegedy et al. 2015, arXiv
    1512.00567). `class_weights`: what a label counts for in the loss, "balanced" for n / (C · n_c) over the train
    split, or by the name of its class, those not named 1; the loss of an update is Σ w·ce / Σ w over its whole batch.
    `dropout`: the probability of every dropout of the model, also 0. `neftune`: α, for uniform noise of at most
    α/√(L·d) on the d embedding values of each of an example's L tokens (Jain et al. 2023, arXiv 2310.05914).
    """

    model_config = STRICT

    label_smoothing: Annotated[float, Field(ge=0, lt=1), OffAtZero] | None = None
    class_weights: Annotated[Any, PlainValidator(check_weights)] | None = None
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    neftune: Annotated[float, Field(ge=0, le=1e6), OffAtZero] | None = None

    def check_task(self, task: Task) -> None:
        """Raises SettingError for a setting that means nothing for `task`."""
        for name, suits, lacks in (
            ("label_smoothing", task.loss_over_classes, "loss is not one over classes, whose labels could be smoothed"),
            ("class_weights", task.loss_over_classes and task.has_named_classes, "classes have no names to weigh by"),
            ("neftune", task.longest is not None, "examples have no tokens, whose embeddings could be made noisy"),
        ):
            if getattr(self, name) is not None and not suits:
                raise SettingError(name, f"is not for the task {task.name}, whose {lacks}: leave it out")

    def check_classes(self, classes: Collection[str]) -> None:
        """Raises SettingError where a class that has a weight is none of `classes`."""
        for name in self.class_weights if isinstance(self.class_weights, Mapping) else ():
            if name not in classes:
                hint = did_you_mean(name, classes)
                raise SettingError(
                    f"regularisation.class_weights.{name}", f"is not one of the classes, {listed(classes)}{hint}"
                )


class Ema(BaseModel):
    """The exponential moving average m ← d·m + (1 − d)·w of the weights w after each update, from those at the start.

    After update t, d is `decay`, with `warmup` (1 + t) / (10 + t) as long as that is less: in a run of a few hundred
    updates an average of .999 would be the pretrained weights for the most part.
    """

    model_config = STRICT

    decay: Annotated[float, Field(gt=0, lt=1)] = 0.999
    warmup: bool = True


class Averaging(BaseModel):
    """Averages of the weights, evaluated beside the plain ones; what is trained stays as it is.

    `ema`: an average over updates, evaluated whenever the plain weights are. `checkpoints`: k, for the uniform average
    of the weights at the last k evaluations (Izmailov et al. 2018, arXiv 1803.05407; Wortsman et al. 2022, arXiv
    2203.05482), evaluated at the end. `keep`: the weights of the model that is kept, and that evaluations are of: of
    "plain" and "ema" evaluation.keep says which, "average" is there at the end alone.
    """

    model_config = STRICT

    ema: Ema | None = None
    checkpoints: Annotated[int, Field(ge=2, le=100)] | None = None
    keep: Literal["plain", "ema", "average"] = "plain"

    @model_validator(mode="after")
    def _consistent(self) -> Averaging:
        if self.ema is None and self.checkpoints is None:
            raise SettingError(
                "", "averages nothing: give ema: {decay: 0.999}, checkpoints: 3 or both, or leave it out"
            )
        for keep, needs, example in (
            ("ema", self.ema, "ema: {decay: 0.999}"),
            ("average", self.checkpoints, "checkpoints: 3"),
        ):
            if self.keep == keep and needs is None:
                raise SettingError("keep", f"{keep} is not averaged: give {example} too")
        return self


class EarlyStopping(BaseModel):
    """Ends a run once `patience` evaluations in a row weren't better than the best by more than `min_delta`.

    Better by the metric that selects, of the weights that are kept. It cuts the schedule short: a rate that decays
    hasn't come down, and runs that end at different updates differ in more than their schedule.
    """

    model_config = STRICT

    patience: PositiveInt = 3
    min_delta: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0


def in_words(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Yields a name and a text for each block of these that the recipe has."""
    regularisation, averaging, stopping = recipe.regularisation, recipe.averaging, recipe.evaluation.early_stopping
    if regularisation is not None:
        settings = {name: value for name, value in regularisation.model_dump().items() if value is not None}
        yield "regularised", ", ".join(f"{name} {_brief(value)}" for name, value in settings.items())
    if averaging is not None:
        parts = []
        if averaging.ema is not None:
            parts.append(f"ema of decay {averaging.ema.decay:g}{', warmed up' if averaging.ema.warmup else ''}")
        if averaging.checkpoints is not None:
            parts.append(f"the last {averaging.checkpoints} evaluations")
        yield "averages", f"{' and '.join(parts)}; {averaging.keep} weights are kept"
    if stopping is not None:
        yield (
            "stops early",
            f"after {stopping.patience} evaluations without a better {recipe.evaluation.selecting}, which cuts the "
            "schedule short: a rate that decays hasn't come down then, and runs that end apart compare as such",
        )


def _brief(value: Any) -> str:
    return ", ".join(f"{name} {each:g}" for name, each in value.items()) if isinstance(value, Mapping) else f"{value}"
