"""Metrics against small tables worked on paper, and scikit-learn's."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn import metrics as scikit

from finetune.errors import SettingError
from finetune.metrics import load_metric
from finetune.metrics.answers import Answers


def of_classes(predictions, references):
    return Answers("classes", np.asarray(predictions), np.asarray(references))


# Three classes, rows true and columns predicted: 0 ▶ (3, 1, 0), 1 ▶ (1, 2, 1), 2 ▶ (0, 0, 2).
REFERENCES = [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
PREDICTIONS = [0, 0, 0, 1, 0, 1, 1, 2, 2, 2]

EXPECTED = {
    "accuracy": 7 / 10,
    # recalls 3/4, 2/4, 2/2
    "balanced_accuracy": (3 / 4 + 2 / 4 + 2 / 2) / 3,
    "f1_micro": 7 / 10,
    "f1_weighted": (4 * 6 / 8 + 4 * 4 / 7 + 2 * 4 / 5) / 10,
    # predicted 4, 3, 3
    "precision_macro": (3 / 4 + 2 / 3 + 2 / 3) / 3,
    "recall_macro": (3 / 4 + 2 / 4 + 2 / 2) / 3,
    # F1 by class: 6/(6+1+1), 4/(4+1+2), 4/(4+1+0)
    "f1_macro": (6 / 8 + 4 / 7 + 4 / 5) / 3,
    # c = 7, s = 10, predicted (4, 3, 3), true (4, 4, 2): (70 − 34) / √((100 − 34)(100 − 36))
    "matthews_correlation": 36 / math.sqrt(66 * 64),
}


@pytest.mark.parametrize(("name", "expected"), EXPECTED.items())
def test_value_by_the_formula(name, expected):
    assert load_metric(name).value(of_classes(PREDICTIONS, REFERENCES)) == pytest.approx(expected)


def averaged(function, average):
    return lambda true, predicted: function(true, predicted, average=average, zero_division=0)


SCIKIT = {
    "accuracy": scikit.accuracy_score,
    "balanced_accuracy": scikit.balanced_accuracy_score,
    "f1_macro": averaged(scikit.f1_score, "macro"),
    "f1_micro": averaged(scikit.f1_score, "micro"),
    "f1_weighted": averaged(scikit.f1_score, "weighted"),
    "precision_macro": averaged(scikit.precision_score, "macro"),
    "recall_macro": averaged(scikit.recall_score, "macro"),
    "matthews_correlation": scikit.matthews_corrcoef,
}


@pytest.mark.filterwarnings("ignore:A single label was found:UserWarning")
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true:UserWarning")
@pytest.mark.parametrize("name", EXPECTED)
@given(pairs=st.lists(st.tuples(st.integers(-1, 4), st.integers(-1, 4)), min_size=1, max_size=40))
@example(pairs=[(7, 10**12)])
def test_value_is_that_of_scikit_learn(name, pairs):
    predictions, references = np.array(pairs).T
    expected = SCIKIT[name](references, predictions)
    assert load_metric(name).value(of_classes(predictions, references)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", ["f1_macro", "matthews_correlation"])
def test_the_standard_error_is_that_of_drawing_examples(name):
    generator = np.random.default_rng(1)
    references = generator.integers(3, size=400)
    predictions = np.where(generator.random(400) < 0.7, references, generator.integers(3, size=400))
    metric = load_metric(name)
    draws = generator.integers(400, size=(2000, 400))
    by_examples = np.std([metric.value(of_classes(predictions[rows], references[rows])) for rows in draws])
    # The error of a spread is 1/√(2 · 200) of it with 200 draws and 1/√(2 · 2000) with 2000: four of both allowed.
    allowed = 4 * math.hypot(1 / math.sqrt(400), 1 / math.sqrt(4000))
    assert metric.standard_error(of_classes(predictions, references)) == pytest.approx(by_examples, rel=allowed)


@pytest.mark.parametrize(("name", "expected"), EXPECTED.items())
def test_compute_is_the_protocol_of_evaluate(name, expected):
    result = load_metric(name).compute(predictions=PREDICTIONS, references=REFERENCES)
    assert result == {name: pytest.approx(expected)}


@pytest.mark.parametrize("name", EXPECTED)
def test_it_combines_with_metrics_of_evaluate(name):
    import evaluate

    combined = evaluate.combine([load_metric(name).in_evaluate])
    assert combined.compute(predictions=PREDICTIONS, references=REFERENCES) == {name: pytest.approx(EXPECTED[name])}


def test_a_value_needs_no_library_but_numpy():
    code = (
        "import sys\nfrom finetune.metrics import METRICS, load_metric\n"
        "for name in METRICS: load_metric(name)\n"
        "print(sorted({'evaluate', 'datasets', 'scipy', 'sklearn', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", EXPECTED)
def test_a_metric_computes_again_from_scratch(name):
    metric = load_metric(name)
    metric.compute(predictions=[0, 1], references=[1, 0])
    assert metric.compute(predictions=[0, 1], references=[0, 1]) == {name: 1.0}


@pytest.mark.parametrize("name", EXPECTED)
def test_perfect_predictions_score_one(name):
    classes = np.array(REFERENCES)
    assert load_metric(name).value(of_classes(classes, classes)) == 1.0


def test_f1_of_a_class_never_predicted_is_zero():
    # Class 0: 2/(2+1); class 1: 0.
    assert load_metric("f1_macro").value(of_classes([0, 0], [0, 1])) == pytest.approx((2 / 3 + 0) / 2)


@pytest.mark.parametrize("references", [[0, 1, 1], [1, 1, 1]])
def test_the_correlation_of_a_constant_is_zero(references):
    assert load_metric("matthews_correlation").value(of_classes([1, 1, 1], references)) == 0.0


def test_the_correlation_of_two_classes_is_pearsons():
    generator = np.random.default_rng(0)
    predictions, references = generator.integers(2, size=(2, 50))
    expected = np.corrcoef(predictions, references)[0, 1]
    assert load_metric("matthews_correlation").value(of_classes(predictions, references)) == pytest.approx(expected)


def test_the_standard_error_of_accuracy_is_binomial():
    error = load_metric("accuracy").standard_error(of_classes(PREDICTIONS, REFERENCES))
    assert error == pytest.approx(math.sqrt(0.7 * 0.3 / 10))


@pytest.mark.parametrize("name", EXPECTED)
def test_no_variation_has_no_standard_error(name):
    references = np.array([0, 1] * 50)
    assert load_metric(name).standard_error(of_classes(references, references)) == 0.0


def balanced(errors, size):
    """True and predicted classes of two classes of `size` examples each, `errors` of either predicted as the other."""
    references = np.repeat([0, 1], size)
    wrong = np.tile(np.arange(size) < errors, 2)
    return np.where(wrong, 1 - references, references), references


@pytest.mark.parametrize(("name", "slope"), [("f1_macro", 1), ("matthews_correlation", 2)])
def test_the_bootstrap_agrees_with_the_delta_method(name, slope):
    # Two classes of equal size with equal errors: F1 varies as the accuracy does, the correlation 2p − 1 twice as much,
    # to first order. The bootstrap's own error with 200 draws is 1/√400 = 5%; four times that is allowed.
    predictions, references = balanced(errors=50, size=250)
    expected = slope * math.sqrt(0.8 * 0.2 / 500)
    assert load_metric(name).standard_error(of_classes(predictions, references)) == pytest.approx(expected, rel=0.2)


@pytest.mark.parametrize("name", EXPECTED)
def test_the_standard_error_is_the_same_each_time(name):
    predictions, references = balanced(errors=3, size=20)
    first = load_metric(name).standard_error(of_classes(predictions, references))
    assert load_metric(name).standard_error(of_classes(predictions, references)) == first > 0


def test_the_bootstrap_leaves_the_global_generator_alone():
    np.random.seed(3)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    load_metric("f1_macro").standard_error(of_classes(PREDICTIONS, REFERENCES))
    assert np.random.random() == expected  # noqa: NPY002


@pytest.mark.parametrize("name", EXPECTED)
def test_resamples_of_a_single_class_raise_no_warning(name):
    # With two examples, half of all draws hold one class only.
    assert load_metric(name).standard_error(of_classes([0, 1], [0, 1])) >= 0


BINARY = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=30)


@given(pairs=BINARY)
def test_f1_is_that_of_the_second_of_two_classes(pairs):
    predictions, references = np.array(pairs).T
    expected = scikit.f1_score(references, predictions, zero_division=0)
    assert load_metric("f1").value(of_classes(predictions, references)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("answers", "count"),
    [
        (Answers("classes", np.array([0, 2]), np.array([0, 1])), "3;"),
        (Answers("classes", np.array([0, 1]), np.array([0, 1]), names=("no", "maybe", "yes")), "3: no, maybe, yes;"),
        (Answers("classes", np.array([0, 1]), np.array([0, 1]), scores=np.eye(4)[:2]), "4;"),
        (Answers("classes", np.array([0, 0]), np.array([0, 0]), names=("only",)), "1: only;"),
    ],
)
def test_f1_of_other_than_two_classes_is_refused(answers, count):
    with pytest.raises(SettingError, match=f'metrics: "f1" is of two classes, and there are {count} give f1_macro'):
        load_metric("f1").value(answers)


def test_f1_is_zero_where_nothing_is_positive():
    assert load_metric("f1").value(of_classes([0, 0], [0, 0])) == 0.0
