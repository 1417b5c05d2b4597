"""Schedules fitted to gradient norms: the algorithm on paper, and the lines that stand for it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.errors import SettingError
from finetune.schedules import fitted, refined_factors

NORMS = st.lists(st.floats(0.01, 100.0), min_size=3, max_size=200)


@pytest.mark.parametrize("updates", [3, 10, 501])
def test_equal_norms_give_the_linear_decay(updates):
    assert refined_factors([3.7] * updates) == pytest.approx(np.linspace(1, 0, updates), abs=1e-12)


def test_the_factors_are_those_of_the_paper_worked_by_hand():
    # w = 1, 1/4, 1, 1/4, 1 and w_t times the sum after it: 2.5, 0.5625, 1.25, 0.25, 0.
    factors = refined_factors([1.0, 2.0, 1.0, 2.0, 1.0], smoothing=1)
    assert factors == pytest.approx(np.array([2.5, 0.5625, 1.25, 0.25, 0.0]) / 2.5)


def test_an_exponent_of_one_is_the_papers_for_adam():
    factors = refined_factors([1.0, 2.0, 1.0], smoothing=1, exponent=1.0)
    assert factors == pytest.approx(np.array([1.5, 0.5, 0.0]) / 1.5)


def test_a_single_spike_is_filtered_out():
    norms = [1.0] * 50
    norms[20] = 1000.0
    assert refined_factors(norms, smoothing="10%") == pytest.approx(np.linspace(1, 0, 50), abs=1e-12)


def test_growing_norms_fall_sooner_than_the_straight_line_and_large_first_ones_make_a_warmup():
    line = np.linspace(1, 0, 100)
    assert (refined_factors(np.linspace(1, 2, 100))[10:90] < line[10:90]).all()
    warming = refined_factors(np.r_[np.full(20, 5.0), np.ones(80)], smoothing=1)
    assert warming[:20].max() < 0.1 < warming[20]


@given(NORMS)
def test_the_factors_lie_between_zero_and_one_and_end_at_zero(norms):
    factors = refined_factors(norms)
    assert factors.min() >= 0
    assert factors.max() == 1.0
    assert factors[-1] == 0.0


@given(NORMS, st.sampled_from([0.002, 0.01, 0.1]))
def test_the_lines_stay_within_the_tolerance_at_every_update_of_as_long_a_run(norms, tolerance):
    factors = refined_factors(norms)
    schedule = fitted(factors, tolerance=tolerance).resolve(total_steps=len(norms))
    assert [schedule(t) for t in range(len(norms))] == pytest.approx(factors, abs=tolerance + 1e-4)


def test_a_straight_line_needs_two_points():
    assert fitted(np.linspace(1, 0, 100)).points == (("0%", 1.0), ("99%", 0.0))


@pytest.mark.parametrize(
    ("norms", "own", "field"),
    [
        ([1.0, 2.0], {}, "norms"),
        ([1.0, 0.0, 2.0], {}, "norms"),
        ([1.0, float("nan"), 2.0], {}, "norms"),
        ([1.0, 1.0, 1.0], {"smoothing": 0}, "smoothing"),
        ([1.0, 1.0, 1.0], {"smoothing": "much"}, "smoothing"),
    ],
)
def test_what_cannot_be_fitted_is_refused(norms, own, field):
    with pytest.raises(SettingError, match=f"^{field}:"):
        refined_factors(norms, **own)


def test_a_tolerance_of_nothing_is_refused():
    with pytest.raises(SettingError, match=r"^tolerance:"):
        fitted([1.0, 0.5, 0.0], tolerance=0.0)
