"""F1, precision and recall of classes and of sets of labels, against scikit-learn's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as scikit

from finetune.metrics import load_metric
from finetune.metrics.answers import Answers

SCIKIT = {
    "f1_macro": (scikit.f1_score, "macro"),
    "f1_micro": (scikit.f1_score, "micro"),
    "f1_weighted": (scikit.f1_score, "weighted"),
    "precision_macro": (scikit.precision_score, "macro"),
    "recall_macro": (scikit.recall_score, "macro"),
}


@pytest.mark.parametrize("name", SCIKIT)
@given(rows=st.lists(st.lists(st.sampled_from([0, 0, 1]), min_size=6, max_size=6), min_size=1, max_size=20))
def test_sets_of_labels_are_scored_as_by_scikit_learn(name, rows):
    predictions, references = np.array(rows)[:, :3], np.array(rows)[:, 3:]
    function, average = SCIKIT[name]
    # Its averages count labels that neither occur nor are predicted as 0; ours leave them out.
    occur = np.flatnonzero((predictions | references).any(axis=0))
    expected = function(references, predictions, labels=occur, average=average, zero_division=0) if len(occur) else 0
    answers = Answers("label_sets", predictions, references)
    assert load_metric(name).value(answers) == pytest.approx(expected, abs=1e-12)


def test_labels_by_hand():
    # Label 0: TP 1, FP 1, FN 0; label 1: TP 1, FP 0, FN 1; label 2 never.
    predictions, references = np.array([[1, 1, 0], [1, 0, 0]]), np.array([[1, 1, 0], [0, 1, 0]])
    answers = Answers("label_sets", predictions, references)
    assert load_metric("f1_macro").value(answers) == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert load_metric("f1_micro").value(answers) == pytest.approx(4 / (4 + 1 + 1))
    assert load_metric("precision_macro").value(answers) == pytest.approx((1 / 2 + 1) / 2)
    assert load_metric("recall_macro").value(answers) == pytest.approx((1 + 1 / 2) / 2)


@pytest.mark.parametrize("name", SCIKIT)
def test_empty_sets_of_labels_score_nothing(name):
    empty = Answers("label_sets", np.zeros((4, 2), int), np.zeros((4, 2), int))
    assert (load_metric(name).value(empty), load_metric(name).standard_error(empty)) == (0.0, 0.0)
