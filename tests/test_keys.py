"""Which keys of a recipe decide what."""

import pytest

from finetune.keys import IMMATERIAL, is_among, is_scheduled
from finetune.recipe import load_recipe
from finetune.training import run_directory


@pytest.mark.parametrize(
    ("key", "among"),
    [("output", True), ("checkpoints.keep", True), ("training.workers", True), ("training", False), ("outputs", False)],
)
def test_a_key_is_among_others_by_whole_names(key, among):
    assert is_among(key, IMMATERIAL) is among


@pytest.mark.parametrize(
    ("key", "scheduled"),
    [
        ("schedule.floor", True),
        ("training.duration", True),
        ("optimizer.learning_rate", True),
        ("optimizer.weight_decay", False),
        ("groups.head.schedule.floor", True),
        ("groups.head.learning_rate", True),
        ("groups.head.parameters", False),
        ("training.seed", False),
    ],
)
def test_rates_are_made_by_schedules_lengths_and_peaks(key, scheduled):
    assert is_scheduled(key) is scheduled


@pytest.mark.parametrize(
    ("override", "same"),
    [
        ("checkpoints.every=3", True),
        ("training.micro_batch_size=4", True),
        ("training.workers=1", True),
        ("tracking=[tensorboard]", True),
        ("training.seed=1", False),
        ("evaluation.every=5", False),
    ],
)
def test_a_run_has_the_same_name_whatever_is_immaterial(small_recipe, override, same):
    one, other = (load_recipe(small_recipe, overrides) for overrides in ((), (override,)))
    names = {run_directory(recipe, source=small_recipe) for recipe in (one, other)}
    assert (len(names) == 1) is same
