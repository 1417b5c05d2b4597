"""Inheritance and overrides: one set of rules for both."""

import itertools

import pytest

from finetune.errors import RecipeError
from finetune.recipe import load_recipe
from finetune.schedules import Cosine, Exponential, Step


@pytest.fixture
def inherit(write, complete):
    """Loads a recipe with the given text over a base that is the complete one with more."""

    def inherit(text, *overrides, base="schedule: {name: step, warmup: 5, gamma: 0.5, every: 10}\n"):
        write(complete + base, "bases/base.yaml")
        return load_recipe(write("base: bases/base.yaml\n" + text, "child.yaml"), overrides)

    return inherit


def test_what_a_child_does_not_say_is_inherited(inherit, tmp_path):
    recipe = inherit("training: {seed: 7}\n")
    assert recipe.schedule == Step(warmup=5, gamma=0.5, every=10)
    assert (recipe.training.seed, recipe.optimizer.learning_rate) == (7, 2e-5)
    assert recipe.data.files["train"] == (tmp_path / "bases" / "train.csv",)
    assert recipe.name == "child"


def test_one_setting_of_a_block_can_be_changed(inherit):
    assert inherit("schedule: {gamma: 0.9}\n").schedule == Step(warmup=5, gamma=0.9, every=10)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("schedule: cosine\n", Cosine(warmup=5)),
        ("schedule: {name: exponential, every: 4}\n", Exponential(warmup=5, gamma=0.5, every=4)),
    ],
)
def test_another_schedule_inherits_the_settings_it_also_has(inherit, text, expected):
    assert inherit(text).schedule == expected


def test_another_optimizer_inherits_the_settings_it_also_has(inherit):
    optimizer = inherit(
        "optimizer: sgd\n",
        base="",
    ).optimizer
    assert (optimizer.name, optimizer.learning_rate, optimizer.momentum) == ("sgd", 2e-5, 0.9)


def test_another_place_of_the_model_inherits_nothing_of_the_old(inherit):
    model = inherit("model: {path: here}\n", base="").model
    assert inherit("model: org/name\n", base="").model.path is None
    assert (model.path.name, model.hub) == ("here", None)


def test_another_repository_inherits_neither_revision_nor_configuration(write, complete):
    write(
        """\
        model: {hub: a/b, revision: abc}
        data: {hub: c/d, config: e, revision: f}
        optimizer: {name: adamw, learning_rate: 1e-3}
        """,
        "base.yaml",
    )
    recipe = load_recipe(write("base: base.yaml\nmodel: x/y\ndata: {hub: z/w}\n"))
    assert recipe.model.revision is None
    assert (recipe.data.config, recipe.data.revision) == (None, None)


def test_one_file_of_the_data_can_be_replaced(inherit, tmp_path):
    files = inherit("data: {files: {train: mine.csv}}\n").data.files
    assert files["train"] == (tmp_path / "mine.csv",)
    assert files["validation"] == (tmp_path / "bases" / "validation.csv",)


def test_bases_have_bases(write, complete):
    write(complete, "one.yaml")
    write("base: one.yaml\ntraining: {seed: 1, batch_size: 8}\n", "two.yaml")
    recipe = load_recipe(write("base: two.yaml\ntraining: {seed: 2}\n", "three.yaml"))
    assert (recipe.training.seed, recipe.training.batch_size, recipe.name) == (2, 8, "three")


def test_a_problem_in_a_base_names_its_file(write, complete):
    base = write(complete + "training: {sed: 1}\n", "base.yaml")
    with pytest.raises(RecipeError) as caught:
        load_recipe(write("base: base.yaml\n"))
    assert f"{base}:5: training.sed: unknown key (did you mean seed?)" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: recipe.yaml\n", "1: base: recipe.yaml inherits from itself"),
        ("base: absent.yaml\n", "absent.yaml: no such file"),
        ("base: [a, b]\n", "1: base: must be the path of one recipe"),
    ],
)
def test_a_base_that_cannot_be_had(write, text, message):
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(text))
    assert message in str(caught.value)


def test_bases_that_go_round_are_refused(write):
    write("base: recipe.yaml\n", "other.yaml")
    with pytest.raises(RecipeError, match="inherits from itself"):
        load_recipe(write("base: other.yaml\n"))


OVERRIDES = ("schedule=step", "schedule.gamma=0.5", "optimizer.learning_rate=1e-4", "training.batch_size=8")


@pytest.mark.parametrize("order", list(itertools.permutations(OVERRIDES))[::5])
def test_overrides_work_in_any_order(load, order):
    recipe = load("schedule: {name: cosine, warmup: 10%, floor: 0.1}", *order)
    assert recipe.schedule == Step(warmup="10%", floor=0.1, gamma=0.5)
    assert (recipe.optimizer.learning_rate, recipe.training.batch_size) == (1e-4, 8)


def test_an_override_is_read_like_yaml(load):
    recipe = load("", "evaluation.metrics=[accuracy, f1_macro]", "evaluation.every=null", "task.label='2'")
    assert recipe.evaluation.metrics == ("accuracy", "f1_macro")
    assert recipe.evaluation.every is None
    assert recipe.task.label == "2"


def test_a_whole_block_can_be_given(load):
    assert load("", "schedule={name: step, every: 7}").schedule == Step(every=7)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("schedule.gama=0.5", "override schedule.gama=0.5: schedule.gama: unknown key"),
        ("training.seed=1.5", "override training.seed=1.5: training.seed: 1.5 is not a whole number"),
        ("foo", "override foo: not KEY=VALUE, such as schedule.gamma=0.5"),
        (".seed=1", "override .seed=1: not KEY=VALUE, such as schedule.gamma=0.5"),
        ("training.seed=[1", "override training.seed=[1: not YAML"),
        ("num_train_epochs=3", "override num_train_epochs=3: num_train_epochs: unknown key; here it is training.duration: 3ep"),
        ("schedule=cosin", "override schedule=cosin: schedule.name: \"cosin\" is not one of"),
    ],
)  # fmt: skip
def test_a_faulty_override_is_named(problems, complete, override, expected):
    (line,) = problems(complete, override)
    assert line.startswith(expected)


def test_the_same_override_twice_is_refused(problems, complete):
    assert problems(complete, "training.seed=1", "training.seed=2") == [
        "override training.seed=2: training.seed is given twice"
    ]
