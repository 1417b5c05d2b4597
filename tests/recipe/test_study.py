"""Study blocks: what they expand to, and what is refused."""

import pytest
import yaml

from finetune.errors import RecipeError
from finetune.recipe import for_tuning, is_study, load_recipe, load_study, with_peak

RECIPE = {
    "model": "an/encoder",
    "data": {"files": {split: f"{split}.csv" for split in ("train", "validation", "test")}, "examples": {"test": 9}},
    "schedule": {"name": "cosine", "warmup": "10%"},
    "optimizer": {"name": "adamw", "learning_rate": 1e-4},
}
GRID = {"schedule": ["cosine", {"name": "step", "gamma": 0.5}], "optimizer": ["adamw", "sgd"], "training.seed": [3, 4]}


@pytest.fixture
def write(tmp_path):
    def make(study, **changes):
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump({**RECIPE, **changes, "study": study}, sort_keys=False), encoding="utf-8")
        return path

    return make


def refusal(path, *overrides):
    with pytest.raises(RecipeError) as caught:
        load_study(path, overrides)
    return str(caught.value)


def test_a_grid_is_all_combinations_with_seeds_apart(write):
    study = load_study(write({"grid": GRID}))
    assert [(s.recipe.schedule.name, s.recipe.optimizer.name) for s in study.settings] == [
        ("cosine", "adamw"),
        ("cosine", "sgd"),
        ("step", "adamw"),
        ("step", "sgd"),
    ]
    assert (study.seeds, study.count, study.keys) == ((3, 4), 8, ("schedule", "optimizer", "training.seed"))
    assert study.settings[2].recipe.schedule.to_dict()["warmup"] == "10%"
    assert study.settings[3].values == {"schedule": {"name": "step", "gamma": 0.5}, "optimizer": "sgd"}


def test_tuning_counts_among_the_runs(write):
    study = load_study(write({"grid": GRID, "tuning": {"factors": [0.3, 1, 3], "seeds": [100, 101]}}))
    assert study.count == 4 * (2 + 3 * 2)
    assert study.tuned == ("optimizer.learning_rate",)


def test_each_rung_of_a_halving_counts_among_the_runs(write):
    # 5 peaks for a third of the duration, and 2 in full.
    study = load_study(write({"grid": GRID, "tuning": {"factors": [0.1, 0.3, 1, 3, 10], "seeds": [100], "halving": 3}}))
    assert study.count == 4 * (2 + 5 + 2)
    assert study.block.model_dump(mode="json")["tuning"]["halving"] == 3


def test_a_study_without_halving_is_written_as_before_there_was_one(write):
    study = load_study(write({"grid": GRID, "tuning": {"factors": [1, 3], "seeds": [100], "halving": None}}))
    assert study.block.model_dump(mode="json")["tuning"] == {"factors": [1, 3], "seeds": [100]}


def test_nested_keys_are_the_dotted_ones(write):
    nested = {"training": {"seed": [1, 2]}, "schedule": {"warmup": ["0%", "10%"]}}
    dotted = {"training.seed": [1, 2], "schedule.warmup": ["0%", "10%"]}
    assert load_study(write({"grid": nested})) == load_study(write({"grid": dotted}))


def test_without_seeds_in_the_grid_the_recipes_own_is_used(write):
    assert load_study(write({"grid": {"schedule": ["cosine"]}}, training={"seed": 7})).seeds == (7,)


def test_a_study_can_be_inherited_and_added_to(write, tmp_path):
    write({"grid": GRID})
    child = tmp_path / "child.yaml"
    child.write_text("base: recipe.yaml\nstudy: {grid: {training.seed: [5]}}\n", encoding="utf-8")
    study = load_study(child)
    assert (study.name, study.seeds, len(study.settings)) == ("child", (5,), 4)


def test_a_study_is_no_recipe_unless_it_is_taken_away(write):
    path = write({"grid": GRID})
    with pytest.raises(RecipeError, match="run it with finetune study, or as one run with study=null"):
        load_recipe(path)
    assert load_recipe(path, ["study=null"]).schedule.name == "cosine"
    assert is_study(path)
    assert not is_study(path, ["study=null"])


@pytest.mark.parametrize(
    ("study", "message"),
    [
        ({"grid": {}}, "study.grid: is empty: give the keys to vary"),
        ({"grid": {"schedule": []}}, "study.grid: schedule has no value"),
        ({"grid": {"schedule": ["cosin"]}}, 'schedule.name: "cosin" is not one of'),
        ({"grid": {"training.sed": [1]}}, "training.sed: unknown key (did you mean seed?)"),
        ({"grid": {"name": ["a"]}}, "study.grid: name can't be varied"),
        ({"grid": {"tracking": [["wandb"]]}}, "study.grid: tracking can't be varied"),
        ({"grid": {"training.seed": [1, 1]}}, "1 is given twice"),
        ({"grid": {"training.seed": [-1]}}, "-1 is not a seed"),
        ({"grid": {"training.seed": [[1]]}, "tuning": {"factors": [1, 2], "seeds": [9]}}, "[1] is not a seed"),
        ({"grid": {"training.seed": list(range(10_001))}}, "makes 10,001 runs, more than 10,000"),
        ({"grid": {"schedule": ["cosine", {"name": "cosine"}]}}, "make the same run; keep one"),
        ({"grid": GRID, "reference": "linear"}, "linear is none of the schedules, cosine, step"),
        ({"grid": GRID, "tuning": {"factors": [1], "seeds": [9]}}, "names too few: 2 factors and 1 seed are the least"),
        ({"grid": GRID, "tuning": {"factors": [1, 2], "seeds": [3]}}, "3 are seeds of the comparison too"),
        ({"grid": GRID, "tuning": {"factor": [1, 2], "seeds": [9]}}, "study.tuning.factor: unknown key"),
        (
            {"grid": {"optimizer.learning_rate": [1e-4]}, "tuning": {"factors": [1, 2], "seeds": [9]}},
            "chooses optimizer.learning_rate, which the grid gives too",
        ),
        (
            {"grid": GRID, "equal_area": True, "tuning": {"factors": [1, 2], "seeds": [9]}},
            "equal_area: sets optimizer.learning_rate, as tuning or the grid does too",
        ),
        ({"gird": GRID}, "study.gird: unknown key (did you mean grid?)"),
    ],
)
def test_what_is_refused(write, study, message):
    text = refusal(write(study))
    assert message in text
    assert "Traceback" not in text


HALVED = {"factors": [0.1, 0.3, 1, 3, 10], "seeds": [9], "halving": 3}
IN_RUNG = "study.tuning.halving: rung 1 of 2, for 1/3 of the duration, can't be made: "


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"halving": 1}, "study.tuning.halving: 1 must be greater than or equal to 2"),
        ({"halving": 2.5}, "study.tuning.halving: 2.5 is not a whole number"),
        ({"halving": True}, "study.tuning.halving: true is not a whole number"),
        ({"halvin": 3}, "study.tuning.halvin: unknown key (did you mean halving?)"),
        (
            {"factors": [1, 2]},
            "study.tuning.halving: 3 saves nothing on 2 factors, of which 2 at least are run in full",
        ),
        ({"factors": [1, 2, 3]}, "study.tuning.halving: 3 saves nothing on 3 factors"),
        ({"factors": [1, 2, 3, 4], "halving": 2}, "study.tuning.halving: 2 saves nothing on 4 factors"),
    ],
)
def test_what_of_a_halving_is_refused(write, change, message):
    assert message in refusal(write({"grid": GRID, "tuning": {**HALVED, **change}}))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("schedule.warmup=2", "schedule.warmup: 2 updates would be less than 1 in a run 1/3 as long: give more, or"),
        ("training.duration=2", "training.duration: 2 updates would be less than 1"),
        ("evaluation.every=1", "evaluation.every: 1 update would be less than 1"),
        (
            "groups={head: {parameters: head, schedule: {warmup: 1}}}",
            "groups.head.schedule.warmup: 1 update would be less than 1",
        ),
        (
            "study.grid={schedule.warmup: [16, 17, 19]}",
            "schedule cosine, schedule.warmup 16 and schedule cosine, schedule.warmup 17 would be the same run; give their",
        ),
    ],
)
def test_what_cannot_be_rescaled_to_a_rung_is_refused_with_the_line_of_the_halving(write, override, message):
    text = refusal(write({"grid": {"schedule": ["cosine", "linear"]}, "tuning": HALVED}), override)
    assert f"{IN_RUNG}{message}" in text
    assert text.endswith("; or leave halving out")
    assert text.splitlines()[1].strip().partition(":")[0].isdigit()
    assert len(text.splitlines()) == 2


def test_a_recipe_without_a_study_is_told_what_one_is(write):
    assert "study: required, and missing; such as study: {grid:" in refusal(write(None))


def test_a_bad_value_is_named_with_its_line(write, tmp_path):
    path = tmp_path / "lines.yaml"
    path.write_text(
        "base: recipe.yaml\nstudy:\n  grid:\n    schedule:\n      - cosine\n      - stp\n", encoding="utf-8"
    )
    write({"grid": GRID})
    assert "6: schedule.name" in refusal(path)


def test_tuning_never_sees_the_test_split(write):
    recipe = for_tuning(load_study(write({"grid": GRID})).settings[0].recipe)
    assert set(recipe.data.files) == {"train", "validation"}
    assert "test" not in recipe.data.examples
    assert recipe.output.endswith("/recipe")


def test_a_groups_own_peak_keeps_its_ratio_to_the_recipes(write):
    groups = {"head": {"parameters": "classifier", "learning_rate": 1e-3}, "rest": {"parameters": "pooler"}}
    recipe = with_peak(load_study(write({"grid": GRID}, groups=groups)).settings[0].recipe, 3e-4)
    assert recipe.optimizer.learning_rate == 3e-4
    assert recipe.groups["head"].learning_rate == pytest.approx(3e-3)
    assert recipe.groups["rest"].learning_rate is None
