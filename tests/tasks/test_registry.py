"""A user's own task: made known by a plugin, trained, evaluated by a metric of its own, and asked again."""

import pytest

from finetune.errors import RecipeError, SettingError
from finetune.metrics import METRICS
from finetune.recipe import load_recipe
from finetune.tasks import TASKS, Task, TextClassification, as_task, register_task

PLUGIN = """
from dataclasses import dataclass
from typing import ClassVar, Literal

from finetune import register_metric, register_task
from finetune.metrics.base import MeanMetric
from finetune.tasks import TextClassification


@register_metric("plugged_error")
class Error(MeanMetric):
    formula = "wrong / all"
    forms = ("classes",)
    greater_is_better = False

    def of_each(self, answers):
        return (answers.predictions != answers.references).astype(float)


@register_task
@dataclass(frozen=True, kw_only=True)
class Shouted(TextClassification):
    metrics: ClassVar[tuple[str, ...]] = ("plugged_error", "accuracy")
    name: Literal["plugged_reviews"] = "plugged_reviews"
    sign: str = "!"

    def read(self, splits):
        classes, examples = super().read(splits)
        assert self.sign
        return classes, examples
"""


@pytest.fixture
def plugged(small_recipe):
    """A recipe of a task that a plugin makes known."""
    (small_recipe.parent / "mine.py").write_text(PLUGIN, encoding="utf-8")
    text = small_recipe.read_text(encoding="utf-8")
    text = text.replace("name: text_classification", "name: plugged_reviews").replace(
        "metrics: [accuracy, f1_macro], select: accuracy, ", ""
    )
    path = small_recipe.parent / "plugged.yaml"
    path.write_text(f"{text}\nplugins: [mine.py]\n", encoding="utf-8")
    yield path
    TASKS.pop("plugged_reviews", None)
    METRICS.pop("plugged_error", None)


def test_a_plugins_task_brings_its_settings_and_metrics(plugged):
    recipe = load_recipe(plugged, ["task.sign='?'"], allow_plugins=True)
    assert (recipe.task.name, recipe.task.sign) == ("plugged_reviews", "?")
    assert (recipe.evaluation.metrics, recipe.evaluation.select) == (("plugged_error", "accuracy"), "plugged_error")
    assert as_task(recipe.task.to_dict()) == recipe.task


def test_a_setting_that_a_plugins_task_lacks_is_named(plugged):
    with pytest.raises(RecipeError, match=r"task\.sing: unknown key \(did you mean sign\?\)"):
        load_recipe(plugged, ["task.sing='?'"], allow_plugins=True)


def test_without_the_plugin_only_that_it_isnt_allowed_is_told(plugged):
    with pytest.raises(RecipeError) as caught:
        load_recipe(plugged)
    (line,) = str(caught.value).splitlines()[1:]
    assert "plugins" in line


@pytest.mark.slow
def test_a_plugins_task_is_trained_and_its_model_is_asked_again(plugged):
    from rich.console import Console

    from finetune import load_run
    from finetune.training import fine_tune

    recipe = load_recipe(plugged, [f"output={plugged.parent / 'runs'}"], allow_plugins=True)
    record = fine_tune(recipe, source=plugged, console=Console(quiet=True))
    scores = record.results.splits["test"].metrics
    assert scores["plugged_error"].value == pytest.approx(1 - scores["accuracy"].value)
    assert scores["plugged_error"].value < 0.3
    assert record.results.greater_is_better is False
    (run,) = (plugged.parent / "runs" / "plugged").iterdir()
    table = load_run(run, allow_plugins=True)(["a superb film", "a dull and stale plot"])
    assert table.column("prediction").to_pylist() == ["positive", "negative"]


def test_what_is_no_task_or_has_a_taken_name_is_refused():
    with pytest.raises(SettingError, match="must extend Task"):
        register_task(dict)
    other = type("Other", (TextClassification,), {})
    with pytest.raises(SettingError, match='"text_classification" is taken by TextClassification'):
        register_task(other)
    assert TASKS["text_classification"] is TextClassification


def test_a_task_without_a_name_is_refused():
    with pytest.raises(SettingError, match="its name must have a default"):
        register_task(type("Nameless", (Task,), {}))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"name": "text_clasification"}, r'"text_clasification" is not one of .*did you mean text_classification\?'),
        ({"name": None}, "null is not one of"),
        ("text_classification", '"text_classification" is not a block of settings'),
    ],
)
def test_what_names_no_task_is_refused(value, message):
    with pytest.raises(SettingError, match=message):
        as_task(value)
