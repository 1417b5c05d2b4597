"""Metrics of numbers, against scipy, scikit-learn and arithmetic."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as scikit

from finetune.metrics import load_metric
from finetune.metrics.answers import Answers
from tests.metrics.drawn import drawn

INDEPENDENT = {
    "pearson": lambda true, predicted: stats.pearsonr(predicted, true).statistic,
    "spearman": lambda true, predicted: stats.spearmanr(predicted, true).statistic,
    "mse": scikit.mean_squared_error,
    "rmse": scikit.root_mean_squared_error,
    "mae": scikit.mean_absolute_error,
    "r2": scikit.r2_score,
}
PAIRS = st.lists(st.tuples(*[st.integers(-50, 50).map(lambda whole: whole / 4)] * 2), min_size=2, max_size=30)


def of_numbers(predictions, references):
    return Answers("numbers", np.asarray(predictions, dtype=float), np.asarray(references, dtype=float))


@pytest.mark.parametrize("name", INDEPENDENT)
@given(pairs=PAIRS)
def test_value_is_that_of_the_libraries(name, pairs):
    predictions, references = np.array(pairs).T
    assume(np.ptp(predictions) > 0)
    assume(np.ptp(references) > 0)
    expected = INDEPENDENT[name](references, predictions)
    assert load_metric(name).value(of_numbers(predictions, references)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", ["pearson", "spearman", "r2"])
@pytest.mark.parametrize(("scale", "shift"), [(1e-200, 0), (1e200, 0), (1, 1e9)])
def test_neither_scale_nor_origin_matters(name, scale, shift):
    answers = drawn("numbers", 50)
    moved = of_numbers(answers.predictions * scale + shift, answers.references * scale + shift)
    assert load_metric(name).value(moved) == pytest.approx(load_metric(name).value(answers), rel=1e-6)


@pytest.mark.parametrize("name", ["pearson", "spearman"])
@pytest.mark.parametrize(
    ("predictions", "references"), [([0.1] * 3, [1, 2, 3]), ([1, 2, 3], [0.1] * 3), ([0.1] * 3, [0.7] * 3), ([2], [2])]
)
def test_the_correlation_of_a_constant_is_zero(name, predictions, references):
    answers = of_numbers(predictions, references)
    assert (load_metric(name).value(answers), load_metric(name).standard_error(answers)) == (0.0, 0.0)


@pytest.mark.parametrize(("name", "expected"), [("pearson", 0), ("r2", math.nan)])
@pytest.mark.parametrize("seed", range(5))
def test_a_draw_of_equal_numbers_is_a_constant_whatever_the_rounding(name, expected, seed):
    # Without the last example, and the first twice: by weights the variation is a difference that rounding leaves.
    generator = np.random.default_rng(seed)
    answers = of_numbers(generator.normal(size=12), [*[0.1] * 11, generator.normal()])
    weights = np.array([[2.0, *[1.0] * 10, 0.0]])
    assert load_metric(name).weighted(answers)(weights)[0] == pytest.approx(expected, abs=0, nan_ok=True)


@pytest.mark.parametrize("references", [[0.1] * 3, [5] * 3])
def test_of_constant_references_no_variance_can_be_explained(references):
    answers = of_numbers([1, 2, 3], references)
    assert math.isnan(load_metric("r2").value(answers))
    assert math.isnan(load_metric("r2").standard_error(answers))


@pytest.mark.parametrize("name", INDEPENDENT)
def test_a_prediction_of_nan_makes_the_value_nan_without_a_warning(name):
    answers = of_numbers([1, math.nan, 3], [1, 2, 4])
    assert math.isnan(load_metric(name).value(answers))


@pytest.mark.parametrize("name", ["mse", "rmse", "mae", "r2", "pearson"])
def test_an_infinite_prediction_makes_no_finite_value_and_no_warning(name):
    assert not math.isfinite(load_metric(name).value(of_numbers([1, math.inf, 3], [1, 2, 4])))


def test_the_standard_error_of_a_mean_is_its_deviation_over_the_root():
    answers = of_numbers([1, 2, 4, 8], [0, 0, 0, 0])
    assert load_metric("mae").standard_error(answers) == pytest.approx(np.std([1, 2, 4, 8]) / 2)
    assert load_metric("mse").standard_error(answers) == pytest.approx(np.std([1, 4, 16, 64]) / 2)


def test_the_standard_error_of_pearson_is_near_the_delta_methods():
    # Of bivariate normals (1 − r²)/√n, to first order; the bootstrap's own error is 1/√400, four times allowed.
    answers = drawn("numbers", 4000)
    r = load_metric("pearson").value(answers)
    assert load_metric("pearson").standard_error(answers) == pytest.approx((1 - r**2) / math.sqrt(4000), rel=0.2)


def test_equal_numbers_share_a_rank():
    # Ranks 1.5, 1.5, 3 and 1, 2, 3: cov 1.5, variances 1.5 and 2.
    assert load_metric("spearman").value(of_numbers([5, 5, 9], [1, 2, 3])) == pytest.approx(1.5 / math.sqrt(1.5 * 2))
