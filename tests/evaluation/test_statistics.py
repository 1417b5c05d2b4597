"""The statistics: against scipy and statsmodels, against published numbers, and against what they promise in simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import DescrStatsW

from finetune.evaluation.statistics import (
    bootstrap_interval,
    equivalence_p_value,
    holm,
    indistinguishable,
    interquartile_mean,
    mean_interval,
    seeds_needed,
    sign_flip_p_value,
)

DIFFERENCES = st.lists(st.floats(-1, 1, allow_subnormal=False), min_size=2, max_size=9)

# Student's own ten patients: the extra hours of sleep under one drug over the other (Biometrika 6, 1908).
SLEEP = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]


def test_the_interval_of_students_sleep_data():
    interval = mean_interval(SLEEP)
    # The mean is 1.58 and t = 4.0621 with 9 degrees of freedom; 2.262157 is the 97.5% point.
    assert interval.estimate == pytest.approx(1.58)
    assert interval.low == pytest.approx(1.58 - 2.262157 * 1.58 / 4.062128, abs=1e-5)
    assert interval.holds(1.58)
    assert not interval.holds(0.0)


@settings(max_examples=50)
@given(DIFFERENCES.filter(lambda values: np.std(values) > 1e-6), st.sampled_from([0.8, 0.95, 0.99]))
def test_the_interval_is_scipys(differences, level):
    expected = stats.ttest_1samp(differences, 0.0).confidence_interval(level)
    interval = mean_interval(differences, level=level)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), rel=1e-8, abs=1e-12)


@settings(max_examples=50)
@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=8))
def test_the_exact_sign_flip_test_is_scipys(thousandths):
    # Of whole numbers, sums that should be equal are; scipy counts those that rounding parts as different.
    differences = [float(thousandth) for thousandth in thousandths]
    expected = stats.permutation_test(
        (np.array(differences), np.zeros(len(differences))),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        n_resamples=np.inf,
        vectorized=True,
    )
    assert sign_flip_p_value(differences) == pytest.approx(expected.pvalue)


def test_fishers_reading_of_darwins_plants():
    # Heights of 15 pairs of crossed and selfed plants, in eighths of an inch; Fisher (1935, §21) counts 1,726 of the
    # 32,768 flips whose sum is as far from 0 as 314.
    darwin = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
    assert sum(darwin) == 314
    assert sign_flip_p_value(darwin) == 1726 / 32768


def test_with_five_seeds_no_difference_reaches_five_percent():
    assert sign_flip_p_value([1, 1, 1, 1, 1]) == 0.0625
    assert sign_flip_p_value([1, 1, 1, 1, 1, 1]) == 0.03125


def test_beyond_sixteen_seeds_flips_are_drawn():
    differences = np.random.default_rng(0).normal(0.3, 1.0, 20)
    exact = stats.ttest_1samp(differences, 0.0).pvalue
    assert sign_flip_p_value(differences) == pytest.approx(exact, abs=0.02)
    assert sign_flip_p_value(differences) == sign_flip_p_value(differences)
    assert sign_flip_p_value(np.ones(40)) == 2**-16


def test_holms_own_steps_worked_by_hand():
    # 4 · 0.005 = 0.02; 3 · 0.01 = 0.03; 2 · 0.03 = 0.06; 1 · 0.04 = 0.04, which must not fall below 0.06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize("p_values", [[0.04], [0.2, 0.001, 0.03, 0.03, 1.0, 0.6], [0.015, 0.012, 0.5, 0.012, 0.0]])
def test_holms_adjustment_is_statsmodels(p_values):
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_never_lowers_a_p_value_and_keeps_their_order(p_values):
    adjusted = holm(p_values)
    assert all(p <= q <= 1 for p, q in zip(p_values, adjusted, strict=True))
    ranked = [q for _, q in sorted(zip(p_values, adjusted, strict=True))]
    assert ranked == sorted(ranked)


def test_equivalence_is_shown_by_many_small_differences_and_by_nothing_else():
    small = np.tile([0.001, -0.001], 10)
    assert equivalence_p_value(small, margin=0.01) < 0.05
    assert equivalence_p_value(small + 0.02, margin=0.01) > 0.5
    assert equivalence_p_value([0.05, -0.05, 0.001], margin=0.01) > 0.05
    assert equivalence_p_value([0.0, 0.0, 0.0], margin=0.01) == 0.0
    with pytest.raises(ValueError, match="give one above 0"):
        equivalence_p_value(small, margin=0.0)


@settings(max_examples=50)
@given(DIFFERENCES.filter(lambda values: np.std(values) > 1e-3), st.floats(0.01, 1.5))
def test_the_equivalence_test_is_statsmodels(differences, margin):
    expected, *_ = DescrStatsW(differences).ttost_mean(-margin, margin)
    assert equivalence_p_value(differences, margin=margin) == pytest.approx(expected, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(("size", "seeds"), [(0.5, 34), (0.8, 15), (0.2, 199)])
def test_the_seeds_needed_are_those_of_the_published_tables(size, seeds):
    # Cohen (1988) and G*Power: a two-sided paired t test at 5% with power 0.8.
    spread_of_one = np.array([-1.0, 1.0]) / np.sqrt(2)
    assert seeds_needed(spread_of_one, effect=size) == seeds


@pytest.mark.parametrize("size", [0.2, 0.35, 0.6, 1.0, 1.5, 1.7, 3.0])
@pytest.mark.parametrize("tests", [1, 5, 15])
def test_the_seeds_needed_are_the_first_with_the_power_that_statsmodels_gives(size, tests):
    spread_of_one = np.array([-1.0, 1.0]) / np.sqrt(2)
    seeds = seeds_needed(spread_of_one, effect=size, level=1 - 0.05 / tests)
    fewer, enough = (TTestPower().power(size, count, 0.05 / tests) for count in (seeds - 1, seeds))
    assert fewer < 0.8 <= enough


def test_seeds_that_are_never_enough_or_always():
    assert seeds_needed([0.1, 0.1, 0.1], effect=0.1) == 2
    assert seeds_needed([-1.0, 1.0], effect=1e-4) is None
    with pytest.raises(ValueError, match="an effect of 0"):
        seeds_needed([0.1, 0.2], effect=0)


def test_the_bootstrap_of_one_seed_is_that_of_its_examples():
    right = np.random.default_rng(1).random((2, 400)) < 0.8
    first, second = right[:1], right[1:]
    interval = bootstrap_interval(first, second, draws=4000)
    difference = first.astype(float) - second
    error = difference.std() / np.sqrt(400)
    assert interval.estimate == pytest.approx(difference.mean())
    assert (interval.high - interval.low) / (2 * 1.96 * error) == pytest.approx(1, abs=0.08)


def test_the_bootstrap_is_wider_the_more_seeds_disagree():
    generator = np.random.default_rng(2)
    zeros = np.zeros((6, 300))
    alike = np.tile(generator.random(300) < 0.1, (6, 1)).astype(float)
    shifted = alike + generator.normal(0, 0.1, (6, 1))
    widths = [np.ptp([(i := bootstrap_interval(each, zeros, draws=1000)).low, i.high]) for each in (alike, shifted)]
    assert widths[1] > 1.5 * widths[0]


@pytest.mark.parametrize(("first", "second"), [(np.zeros((2, 3)), np.zeros((2, 4))), (np.zeros(3), np.zeros(3))])
def test_what_is_not_paired_is_refused(first, second):
    with pytest.raises(ValueError, match="not the same seeds × examples"):
        bootstrap_interval(first, second)


def test_groups_of_what_cannot_be_told_apart_overlap():
    assert indistinguishable(["a", "b", "c"], []) == [("a", "b", "c")]
    assert indistinguishable(["a", "b", "c"], [("a", "c")]) == [("a", "b"), ("b", "c")]
    assert indistinguishable(["a", "b"], [("b", "a")]) == [("a",), ("b",)]


def test_the_interquartile_mean_leaves_a_quarter_out_at_each_end():
    assert interquartile_mean([100, 1, 2, -50]) == 1.5
    assert interquartile_mean([1, 2, 3, 4, 5, 6, 7, 80]) == stats.trim_mean([1, 2, 3, 4, 5, 6, 7, 80], 0.25)
    # Of five, a quarter is 1.25 values: the second and fourth count for 0.75 each.
    assert interquartile_mean([0, 1, 2, 4, 9]) == pytest.approx((0.75 * 1 + 2 + 0.75 * 4) / 2.5)
    assert interquartile_mean([[100, 1], [1, 2], [2, 3], [-50, 4]]).tolist() == [1.5, 2.5]


@pytest.mark.parametrize("function", [mean_interval, sign_flip_p_value, interquartile_mean])
@pytest.mark.parametrize("values", [[], [1.0, float("nan")]])
def test_nothing_and_nan_are_refused(function, values):
    with pytest.raises(ValueError, match=r"too few|not finite"):
        function(values)


def test_intervals_cover_and_tests_err_as_often_as_they_say():
    generator = np.random.default_rng(3)
    studies = generator.normal(0.2, 1.0, (2000, 6))
    covered = np.mean([mean_interval(study).holds(0.2) for study in studies])
    wrong = np.mean([sign_flip_p_value(study - 0.2) <= 0.05 for study in studies])
    # Three standard errors of 2,000 studies.
    assert covered == pytest.approx(0.95, abs=0.015)
    assert wrong == pytest.approx(2 / 64, abs=0.012)
