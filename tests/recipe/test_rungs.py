"""The rungs of successive halving, and the recipe of a shorter one."""

from fractions import Fraction

import pytest

from finetune.recipe import for_tuning, load_recipe
from finetune.recipe.rungs import lay_out_rungs, rescaled

RECIPE = """
model: an/encoder
data: {files: {train: train.csv, validation: validation.csv, test: test.csv}}
schedule: {name: cosine, warmup: 18}
optimizer: {name: adamw, learning_rate: 1e-4}
training: {duration: 9ep}
evaluation: {every: 1ep}
groups:
  own: {parameters: a, schedule: {name: wsd, cooldown: 36}}
  part: {parameters: b, schedule: {floor: 0.1}}
  other_warmup: {parameters: c, schedule: {warmup: 9}}
  named: {parameters: d, schedule: linear}
  none: {parameters: e}
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return load_recipe(path)


@pytest.mark.parametrize(
    ("peaks", "reduction", "rungs"),
    [
        (5, None, [(5, 1)]),
        (5, 3, [(5, Fraction(1, 3)), (2, 1)]),
        (10, 3, [(10, Fraction(1, 9)), (4, Fraction(1, 3)), (2, 1)]),
        (9, 3, [(9, Fraction(1, 9)), (3, Fraction(1, 3)), (2, 1)]),
        (8, 2, [(8, Fraction(1, 4)), (4, Fraction(1, 2)), (2, 1)]),
        (3, 100, [(3, Fraction(1, 100)), (2, 1)]),
        (2, 3, [(2, 1)]),
    ],
)
def test_the_best_part_goes_on_for_as_many_times_as_long_and_two_at_least_are_run_in_full(peaks, reduction, rungs):
    found = lay_out_rungs(peaks, reduction)
    assert [(rung.peaks, rung.share) for rung in found] == rungs
    assert [str(rung) for rung in found] == [f"rung {number + 1} of {len(rungs)}" for number in range(len(rungs))]


def test_a_shorter_run_has_every_horizon_rescaled(recipe):
    third = rescaled(recipe, Fraction(1, 3))
    assert third.training.duration == "3ep"
    assert third.evaluation.every == "0.333333333333ep"
    assert third.schedule.warmup == 6
    assert third.schedule_of("own").cooldown == 12
    assert third.schedule_of("other_warmup").warmup == 3
    assert third.checkpoints == recipe.checkpoints


def test_groups_that_have_no_duration_of_their_own_are_left_as_they_are_written(recipe):
    groups = rescaled(recipe, Fraction(1, 3)).groups
    assert {name: groups[name].schedule for name in ("part", "other_warmup", "named", "none")} == {
        "part": {"floor": 0.1},
        "other_warmup": {**recipe.schedule_of("other_warmup").to_dict(), "warmup": 3},
        "named": "linear",
        "none": None,
    }


def test_evaluation_at_the_end_alone_stays_so(recipe):
    rare = recipe.model_copy(update={"evaluation": recipe.evaluation.model_copy(update={"every": None})})
    assert rescaled(rare, Fraction(1, 3)).evaluation.every is None


def test_the_last_rung_is_tuning_as_without_halving(recipe):
    first, last = lay_out_rungs(5, 3)
    assert for_tuning(recipe, last) == for_tuning(recipe)
    assert for_tuning(recipe, last).name == "tuning"
    shorter = for_tuning(recipe, first)
    assert (shorter.output, shorter.name) == ("runs/recipe/tuning", "rung1")
    assert set(shorter.data.files) == {"train", "validation"}
