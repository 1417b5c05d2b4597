"""Rows two by two: paired by seed, tested where there are seeds enough, and never said to differ by luck alone."""

import numpy as np
import pytest

from finetune.evaluation.contrasts import contrasts, fewest_seeds
from finetune.evaluation.statistics import mean_interval


@pytest.fixture
def contrasted(only):
    """A function that sets the rows of records against each other, with the question as keywords."""
    return lambda records, **question: contrasts(only(records), **question)


def test_differences_are_paired_by_seed(study, contrasted):
    (contrast,) = contrasted(study({"cosine": [0.80, 0.82, 0.84], "step": [0.79, 0.80, 0.85]}))
    assert (contrast.first, contrast.second, contrast.seeds) == ("cosine", "step", (0, 1, 2))
    assert contrast.differences == pytest.approx([0.01, 0.02, -0.01])
    assert contrast.interval == mean_interval(contrast.differences)
    assert (contrast.p_value, contrast.verdict) == (None, "too few seeds")


def test_seeds_that_only_one_row_has_are_left_out(make_record, contrasted):
    records = [make_record("cosine", seed=0), make_record("cosine", seed=1), make_record("step", seed=1)]
    assert [contrast.seeds for contrast in contrasted(records)] == [(1,)]


def test_runs_that_diverged_are_no_pair(make_record, contrasted):
    records = [make_record(schedule, seed=seed) for schedule in ("cosine", "step") for seed in (0, 1)]
    assert [contrast.seeds for contrast in contrasted([*records, make_record("step", seed=2, diverged=True)])] == [
        (0, 1)
    ]


def test_runs_that_began_differently_are_no_pair(make_record, contrasted):
    assert contrasted([make_record("cosine"), make_record("step", weights="other")]) == []


def test_five_seeds_are_tested_and_said_to_be_too_few(study, contrasted, printed):
    records = study({"cosine": [0.9] * 5, "step": [0.8] * 5})
    (contrast,) = contrasted(records)
    assert contrast.p_value == contrast.adjusted == 0.0625
    assert not contrast.is_shown
    assert "5 seeds are too few for the exact test to reach 5% in 1 difference" in printed(records)
    assert "that takes 6" in printed(records)


def test_a_difference_in_every_one_of_many_seeds_is_shown(study, contrasted):
    scores = {"cosine": np.linspace(0.85, 0.86, 8), "step": np.linspace(0.80, 0.82, 8), "linear": [0.855] * 8}
    found = {(each.first, each.second): each for each in contrasted(study(scores))}
    assert found["cosine", "step"].p_value == 2 / 256
    assert found["cosine", "step"].adjusted == 6 / 256  # the least of three tests counts thrice
    assert [pair for pair, contrast in found.items() if contrast.is_shown] == [("cosine", "step"), ("linear", "step")]


def test_a_difference_that_is_shown_may_still_be_less_than_matters(study, contrasted):
    scores = {"cosine": np.linspace(0.850, 0.857, 8), "step": np.linspace(0.849, 0.8563, 8)}
    (contrast,) = contrasted(study(scores), equivalence=0.01)
    assert contrast.verdict == "different, by less than matters"


def test_one_seed_prints_no_differences(study, printed):
    assert "paired by seed" not in printed(study({"cosine": [0.9], "step": [0.8]}))


def test_three_seeds_print_differences_and_test_nothing(study, printed):
    text = printed(study({"cosine": [0.80, 0.82, 0.84], "step": [0.79, 0.80, 0.85]}))
    assert "+0.0067 [-0.0313, +0.0446]  too few seeds" in text
    assert "Holm" not in text


def test_rows_are_named_by_whatever_tells_them_apart(make_record, contrasted):
    other = {"optimizer": {"name": "sgd", "learning_rate": 1e-4}}
    (contrast,) = contrasted([make_record(seed=seed, changes=change) for seed in range(2) for change in (None, other)])
    assert {contrast.first, contrast.second} == {"cosine, adamw", "cosine, sgd"}


@pytest.mark.parametrize(("tests", "seeds"), [(1, 6), (2, 7), (5, 8), (15, 10)])
def test_the_seeds_that_the_exact_test_needs(tests, seeds):
    # 2/2ⁿ, times the number of tests, must be at most 0.05.
    assert fewest_seeds(tests) == seeds


def test_how_many_seeds_would_find_what_matters(study, contrasted):
    scores = {"cosine": [0.85] * 8, "step": [0.83, 0.87, 0.84, 0.86, 0.85, 0.88, 0.83, 0.85]}
    (contrast,) = contrasted(study(scores), equivalence=0.01)
    assert (contrast.verdict, contrast.effect) == ("undecided", 0.01)
    # n ≈ (1.96 + 0.84)² s²/d², a little more for the t distribution.
    approximate = (1.96 + 0.8416) ** 2 * np.var(contrast.differences, ddof=1) / 0.01**2
    assert approximate <= contrast.seeds_needed <= approximate + 4


def grid(make_record):
    peaks = {("cosine", "adamw"): 1e-4, ("cosine", "sgd"): 1e-2, ("step", "adamw"): 3e-4, ("step", "sgd"): 1e-1}
    peaks |= {("linear", "adamw"): 1e-4, ("linear", "sgd"): 1e-2}
    return [
        make_record(
            schedule, 0.8, seed=seed, changes={"optimizer": {"name": optimizer, "learning_rate": peak}}, study={}
        )
        for (schedule, optimizer), peak in peaks.items()
        for seed in (0, 1)
    ]


@pytest.fixture
def pairs(contrasted):
    """A function that returns which rows of records are set against each other."""
    return lambda records, **question: {
        frozenset((each.first, each.second)) for each in contrasted(records, **question)
    }


def test_a_study_sets_schedules_against_each_other_under_each_optimizer(make_record, pairs):
    found = pairs(grid(make_record))
    assert len(found) == 2 * 3
    assert all(len({name.split(", ")[1] for name in pair}) == 1 for pair in found)


def test_with_a_reference_the_other_schedules_are_set_against_it_alone(make_record, pairs):
    found = pairs(grid(make_record), reference="cosine")
    assert len(found) == 2 * 2
    assert not any("linear" in " ".join(pair) and "step" in " ".join(pair) for pair in found)


def test_runs_of_one_schedule_are_set_against_each_other_where_one_key_differs(make_record, pairs):
    changes = [
        {"optimizer": {"name": name, "learning_rate": peak}} for name in ("adamw", "sgd") for peak in (1e-4, 1e-2)
    ]
    found = pairs([make_record(seed=seed, changes=change) for seed in (0, 1) for change in changes])
    assert len(found) == 4
