"""Rows two by two: paired by seed, tested where there are seeds enough, and never said to differ by luck alone."""

import io

import numpy as np
import pytest
from rich.console import Console

from finetune.evaluation.comparison import compare
from finetune.evaluation.contrasts import contrasts
from finetune.evaluation.record import StudyPart
from finetune.evaluation.statistics import mean_interval
from finetune.evaluation.table import print_comparison


def study(make_record, scores):
    """The comparison of records with the given scores: {schedule: [score of seed 0, of seed 1, …]}."""
    (comparison,) = compare(
        make_record(schedule, score, seed=seed) for schedule, row in scores.items() for seed, score in enumerate(row)
    )
    return comparison


def printed(comparison):
    out = io.StringIO()
    print_comparison(comparison, Console(file=out, width=200))
    return out.getvalue()


def test_differences_are_paired_by_seed(make_record):
    (contrast,) = contrasts(study(make_record, {"cosine": [0.80, 0.82, 0.84], "step": [0.79, 0.80, 0.85]}))
    assert (contrast.first, contrast.second, contrast.seeds) == ("cosine", "step", (0, 1, 2))
    assert contrast.differences == pytest.approx([0.01, 0.02, -0.01])
    assert contrast.interval == mean_interval(contrast.differences)
    assert contrast.p_value is None


def test_seeds_that_only_one_row_has_are_left_out(make_record):
    records = [make_record("cosine", seed=0), make_record("cosine", seed=1), make_record("step", seed=1)]
    (comparison,) = compare(records)
    assert [contrast.seeds for contrast in contrasts(comparison)] == [(1,)]


def test_runs_that_began_differently_are_no_pair(make_record):
    (comparison,) = compare([make_record("cosine"), make_record("step", weights="other")])
    assert contrasts(comparison) == []


def test_five_seeds_are_tested_and_said_to_be_too_few(make_record):
    comparison = study(make_record, {"cosine": [0.9] * 5, "step": [0.8] * 5})
    (contrast,) = contrasts(comparison)
    assert contrast.p_value == contrast.adjusted == 0.0625
    assert not contrast.is_shown
    text = printed(comparison)
    assert "None is shown to differ at 5%." in text
    assert "With 5 seeds none could be: the test can reach 5% for all of them with 6 seeds or more." in text


def test_a_difference_in_every_one_of_many_seeds_is_shown(make_record):
    scores = {"cosine": np.linspace(0.85, 0.86, 8), "step": np.linspace(0.80, 0.82, 8), "linear": [0.855] * 8}
    comparison = study(make_record, scores)
    found = {(each.first, each.second): each for each in contrasts(comparison)}
    assert found["cosine", "step"].p_value == 2 / 256
    assert found["cosine", "step"].adjusted == 6 / 256  # the least of three tests counts thrice
    assert [pair for pair, contrast in found.items() if contrast.is_shown] == [("cosine", "step"), ("linear", "step")]
    assert "Shown to differ at 5%: cosine and step; linear and step." in printed(comparison)


def test_two_identical_schedules_are_not_shown_to_differ(make_record):
    comparison = study(
        make_record, {"cosine": [0.85, 0.86, 0.84, 0.85, 0.87, 0.86], "step": [0.85, 0.86, 0.84, 0.85, 0.87, 0.86]}
    )
    (contrast,) = contrasts(comparison)
    assert (contrast.p_value, contrast.is_shown) == (1.0, False)
    assert "None is shown to differ" in printed(comparison)


def test_one_seed_prints_no_differences(make_record):
    assert "paired by seed" not in printed(study(make_record, {"cosine": [0.9], "step": [0.8]}))


def test_three_seeds_print_differences_and_test_nothing(make_record):
    text = printed(study(make_record, {"cosine": [0.80, 0.82, 0.84], "step": [0.79, 0.80, 0.85]}))
    assert "cosine − step  +0.0067 [-0.0313, +0.0446]  3 seeds  too few to test" in text
    assert "Holm" not in text


def test_rows_are_named_by_whatever_tells_them_apart(make_record):
    other = {"optimizer": {"name": "sgd", "learning_rate": 1e-4}}
    records = [make_record(seed=seed, changes=change) for seed in range(2) for change in (None, other)]
    (comparison,) = compare(records)
    (contrast,) = contrasts(comparison)
    assert {contrast.first, contrast.second} == {"cosine, optimizer.name adamw", "cosine, optimizer.name sgd"}


def in_study(record, **changes):
    part = {"name": "s", "role": "final", "keys": ["schedule", "optimizer"], "tuned": ["optimizer.learning_rate"]}
    return record.model_copy(update={"study": StudyPart(**{**part, **changes})})


def grid(make_record, **changes):
    peaks = {("cosine", "adamw"): 1e-4, ("cosine", "sgd"): 1e-2, ("step", "adamw"): 3e-4, ("step", "sgd"): 1e-1}
    peaks |= {("linear", "adamw"): 1e-4, ("linear", "sgd"): 1e-2}
    return [
        in_study(
            make_record(schedule, 0.8, seed=seed, changes={"optimizer": {"name": optimizer, "learning_rate": peak}}),
            **changes,
        )
        for (schedule, optimizer), peak in peaks.items()
        for seed in (0, 1)
    ]


def pairs(records):
    (comparison,) = compare(records)
    return {frozenset((contrast.first, contrast.second)) for contrast in contrasts(comparison)}


def test_a_study_sets_schedules_against_each_other_under_each_optimizer_and_optimizers_under_each_schedule(make_record):
    found = pairs(grid(make_record))
    assert len(found) == 2 * 3 + 3
    assert all(len({name.split(",")[0] for name in pair}) == 2 or len(pair) == 2 for pair in found)
    assert not any("cosine" in one and "step" in other and ("sgd" in one) != ("sgd" in other) for one, other in found)


def test_with_a_reference_the_other_schedules_are_set_against_it_alone(make_record):
    found = pairs(grid(make_record, reference="cosine"))
    assert len(found) == 2 * 2 + 3
    assert not any("linear" in " ".join(pair) and "step" in " ".join(pair) for pair in found)
