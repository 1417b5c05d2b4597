"""The settings that regularise and average: what they mean, what is refused, and that they change nothing when off."""

import dataclasses
import re
from typing import ClassVar, Literal

import pytest

from finetune.errors import SettingError
from finetune.metrics.answers import Form
from finetune.recipe.regularisation import Averaging, EarlyStopping, Regularisation
from finetune.tasks import TASKS, Task
from finetune.training.run_directory import run_directory

OFF = """
regularisation: {label_smoothing: 0, neftune: 0}
averaging: null
evaluation: {early_stopping: null}
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Regression(Task):
    form: ClassVar[Form] = "numbers"
    metrics: ClassVar[tuple[str, ...]] = ("mse",)

    name: Literal["regression"] = "regression"


def test_settings_that_are_off_leave_runs_where_versions_before_them_had_them(load, write, complete):
    recipe = load()
    source = write(complete)
    # As it was before there were such settings: runs that are recorded must be found again.
    assert run_directory(recipe, source=source).name == "cosine-adamw-lr2e-05-seed0-66298183"
    assert run_directory(load(OFF), source=source) == run_directory(recipe, source=source)
    assert load(OFF).regularisation is None


@pytest.mark.parametrize(
    "setting",
    [
        *("regularisation.label_smoothing=0.1", "regularisation.class_weights=balanced", "regularisation.dropout=0.0"),
        *("regularisation.neftune=5", "averaging.ema={}", "averaging.checkpoints=3", "evaluation.early_stopping={}"),
    ],
)
def test_each_setting_makes_another_run_and_is_read_back_as_it_was_written(load, write, complete, setting):
    recipe = load("", setting)
    assert run_directory(recipe, source=write(complete)) != run_directory(load(), source=write(complete))
    from finetune.recipe import load_recipe

    assert load_recipe(write(recipe.to_yaml())) == recipe


def test_the_defaults_are_those_of_the_papers_and_of_short_runs(load):
    recipe = load("averaging: {ema: {}}\nevaluation: {early_stopping: {}}")
    assert recipe.averaging.model_dump() == {
        "ema": {"decay": 0.999, "warmup": True},
        "checkpoints": None,
        "keep": "plain",
    }
    assert recipe.evaluation.early_stopping == EarlyStopping(patience=3, min_delta=0.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("regularisation: {label_smoothing: 1}", "regularisation.label_smoothing: 1 must be less than 1"),
        ("regularisation: {label_smothing: 0.1}", "unknown key (did you mean label_smoothing?)"),
        ("regularisation: {class_weights: balance}", "neither balanced nor a weight for each of some classes (did you"),
        (
            "regularisation: {class_weights: {bad: 0}}",
            "regularisation.class_weights.bad: 0 is no weight: give a number",
        ),
        ("regularisation: {dropout: 1.0}", "regularisation.dropout"),
        ("averaging: {keep: ema, checkpoints: 3}", "averaging.keep: ema is not averaged: give ema: {decay: 0.999} too"),
        ("averaging: {}", "averaging: averages nothing: give ema"),
        ("averaging: {ema: {decay: 1}}", "averaging.ema.decay"),
        ("evaluation: {early_stopping: {patience: 0}}", "evaluation.early_stopping.patience"),
        ("evaluation: {every: null, early_stopping: {}}", "evaluation.early_stopping: counts evaluations, and every"),
        (
            "training: {on_non_finite: continue}\nevaluation: {early_stopping: {}}",
            "evaluation.early_stopping: can't be had with training.on_non_finite: continue",
        ),
        ("neftune_noise_alpha: 5", "unknown key; here it is regularisation.neftune"),
    ],
)
def test_what_can_not_be_meant_is_refused_at_its_place(problems, complete, text, message):
    (problem,) = problems(complete + text)
    assert message in problem


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("label_smoothing", 0.1, "label_smoothing: is not for the task regression, whose loss is not one over classes"),
        ("class_weights", "balanced", "class_weights: is not for the task regression, whose classes have no names"),
        ("neftune", 5.0, "neftune: is not for the task regression, whose examples have no tokens"),
    ],
)
def test_what_means_nothing_for_a_task_is_refused(setting, value, message):
    with pytest.raises(SettingError, match=re.escape(message)):
        Regularisation(**{setting: value}).check_task(Regression())
    Regularisation(dropout=0.0).check_task(Regression())


def test_an_unknown_class_is_refused_with_the_one_that_is_meant():
    with pytest.raises(
        SettingError, match=r"class_weights.negativ: is not one of the classes, negative, positive \(did you mean neg"
    ):
        Regularisation(class_weights={"negativ": 2.0}).check_classes(("negative", "positive"))


def test_an_average_of_one_evaluation_is_none():
    with pytest.raises(ValueError, match="greater than or equal to 2"):
        Averaging(checkpoints=1)


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_the_losses_and_counts_that_it_says(name):
    task = TASKS[name]
    assert task.loss_over_classes == (task.class_logits is not Task.class_logits)
    assert not task.has_named_classes or task.label_counts is not Task.label_counts
    assert task.loss_over_classes or not task.has_named_classes
