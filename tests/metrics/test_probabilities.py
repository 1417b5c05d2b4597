"""Metrics of probabilities, against scikit-learn, torchmetrics and arithmetic."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as scikit
from torchmetrics.functional.classification import multiclass_calibration_error

from finetune.errors import SettingError
from finetune.metrics import load_metric
from finetune.metrics.answers import Answers
from tests.metrics.drawn import drawn

TENTHS = st.integers(0, 10).map(lambda tenth: tenth / 10)


def of_classes(scores, references):
    return Answers("classes", scores.argmax(axis=1), np.asarray(references), scores)


def of_two(positive, references):
    positive = np.asarray(positive, dtype=float)
    return of_classes(np.stack([1 - positive, positive], axis=1), references)


@given(rows=st.lists(st.tuples(TENTHS, st.integers(0, 1)), min_size=2, max_size=30))
def test_the_area_of_two_classes_is_scikit_learns(rows):
    scores, references = (np.array(column) for column in zip(*rows, strict=True))
    known = len(set(references.tolist())) == 2
    expected = scikit.roc_auc_score(references, scores) if known else math.nan
    assert load_metric("auroc").value(of_two(scores, references)) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("seed", range(5))
def test_the_area_of_several_classes_is_scikit_learns_one_against_the_rest(seed):
    answers = drawn("classes", 80, seed=seed, classes=4)
    expected = scikit.roc_auc_score(answers.references, answers.scores, multi_class="ovr", average="macro")
    assert load_metric("auroc").value(answers) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_the_area_of_labels_is_scikit_learns(seed):
    answers = drawn("label_sets", 80, seed=seed)
    expected = scikit.roc_auc_score(answers.references, answers.scores, average="macro")
    assert load_metric("auroc").value(answers) == pytest.approx(expected)


def test_labels_that_all_or_no_examples_have_are_left_out_of_the_area():
    answers = drawn("label_sets", 40)
    references = answers.references.copy()
    references[:, 0], references[:, 1] = 0, 1
    expected = scikit.roc_auc_score(references[:, 2], answers.scores[:, 2])
    found = load_metric("auroc").value(Answers("label_sets", answers.predictions, references, answers.scores))
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("scores", [[0.2, 0.7], [math.nan, 0.3]])
def test_the_area_of_one_class_or_of_nan_is_undefined(scores):
    answers = of_two(scores, [1, 1] if not math.isnan(scores[0]) else [0, 1])
    assert math.isnan(load_metric("auroc").value(answers))
    assert math.isnan(load_metric("auroc").standard_error(answers))


def test_constant_scores_have_half_the_area():
    assert load_metric("auroc").value(of_two([0.3] * 6, [0, 1, 0, 1, 1, 0])) == 0.5


def test_the_standard_error_of_the_area_is_delongs():
    # DeLong et al. 1988, by pairs: how often each positive beats the negatives, and each negative is beaten.
    answers = drawn("classes", 200, classes=2)
    scores, true = answers.scores[:, 1], answers.references == 1
    beats = (scores[true][:, None] > scores[~true]) + 0.5 * (scores[true][:, None] == scores[~true])
    expected = math.sqrt(beats.mean(axis=1).var() / true.sum() + beats.mean(axis=0).var() / (~true).sum())
    assert load_metric("auroc").standard_error(answers) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_the_calibration_error_is_torchmetrics(seed):
    answers = drawn("classes", 200, seed=seed, classes=4)
    expected = multiclass_calibration_error(
        torch.tensor(answers.scores), torch.tensor(answers.references), num_classes=4, n_bins=15, norm="l1"
    )
    assert load_metric("calibration_error").value(answers) == pytest.approx(float(expected), rel=1e-5)


def test_the_calibration_error_by_hand():
    # Two bins: .95 and .95, one right; .6 right. |1 − 1.9| / 3 + |1 − .6| / 3
    answers = of_two([0.95, 0.95, 0.6], [1, 0, 1])
    assert load_metric("calibration_error").value(answers) == pytest.approx((0.9 + 0.4) / 3)


def test_a_confidence_on_a_border_is_in_the_bin_below():
    # 10/15 is in (9/15, 10/15], with .61; .7 isn't: |2 − 10/15 − .61| / 3 + |0 − .7| / 3
    answers = of_two([10 / 15, 0.61, 0.7], [1, 1, 0])
    assert load_metric("calibration_error").value(answers) == pytest.approx((2 - 10 / 15 - 0.61 + 0.7) / 3)


def test_certain_and_right_is_calibrated():
    assert load_metric("calibration_error").value(of_two([1, 0, 1], [1, 0, 1])) == 0


@pytest.mark.parametrize("name", ["auroc", "calibration_error"])
def test_without_probabilities_there_is_an_error(name):
    with pytest.raises(SettingError, match=f'metrics: "{name}" needs probabilities, and there are none'):
        load_metric(name).value(Answers("classes", np.array([0, 1]), np.array([0, 1])))
