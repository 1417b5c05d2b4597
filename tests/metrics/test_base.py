"""What all metrics have in common: standard errors, undefined values, and evaluate's protocol."""

import math
import time

import numpy as np
import pytest

from finetune.metrics import METRICS, load_metric
from finetune.metrics.answers import Answers
from finetune.metrics.base import RESAMPLES, Metric, WeightedMetric, quotient, spread
from finetune.metrics.classification import TableMetric
from tests.metrics.drawn import answers_for, cases

CASES = cases(METRICS)
COUNT = 150


@pytest.mark.parametrize(("name", "form"), CASES)
def test_the_standard_error_is_that_of_drawing_examples(name, form):
    metric, answers = load_metric(name), answers_for(name, form, COUNT)
    generator = np.random.default_rng(1)
    by_examples = np.std([metric.value(answers.take(generator.integers(COUNT, size=COUNT))) for _ in range(500)])
    # The error of a spread is 1/√(2 · 200) of it with 200 draws and 1/√(2 · 500) with 500: four of both allowed.
    allowed = 4 * math.hypot(1 / math.sqrt(2 * RESAMPLES), 1 / math.sqrt(1000))
    assert metric.standard_error(answers) == pytest.approx(by_examples, rel=allowed)


@pytest.mark.parametrize(("name", "form"), CASES)
def test_the_standard_error_falls_as_the_root_of_the_examples(name, form):
    metric = load_metric(name)
    few, many = (metric.standard_error(answers_for(name, form, count, seed=2)) for count in (400, 6400))
    assert few / many == pytest.approx(4, rel=0.35)


def is_weighted(name, form):
    metric = load_metric(name)
    return isinstance(metric, WeightedMetric) and not (isinstance(metric, TableMetric) and form == "classes")


@pytest.mark.parametrize(("name", "form"), [case for case in CASES if is_weighted(*case)])
def test_weights_give_what_taking_the_examples_would(name, form):
    metric, answers = load_metric(name), answers_for(name, form, 40)
    assert metric.standard_error(answers) == pytest.approx(Metric.standard_error(metric, answers), rel=1e-9)


@pytest.mark.parametrize(
    ("name", "form", "module"), [("pearson", "numbers", "base"), ("f1_macro", "classes", "classification")]
)
def test_draws_that_are_held_in_parts_give_the_same(name, form, module, monkeypatch):
    metric, answers = load_metric(name), answers_for(name, form, 50)
    whole = metric.standard_error(answers)
    monkeypatch.setattr(f"finetune.metrics.{module}.CELLS", 150)
    assert metric.standard_error(answers) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize(("name", "form"), CASES)
def test_the_standard_error_is_the_same_each_time_and_leaves_the_global_generator_alone(name, form):
    answers = answers_for(name, form, 60)
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    assert load_metric(name).standard_error(answers) == load_metric(name).standard_error(answers) > 0
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


@pytest.mark.parametrize(("name", "form"), CASES)
def test_a_thousand_examples_take_a_moment(name, form):
    metric, answers = load_metric(name), answers_for(name, form, 1000)
    times = []
    for _ in range(3):
        start = time.process_time()
        metric.standard_error(answers)
        times.append(time.process_time() - start)
    assert min(times) < 0.3


@pytest.mark.parametrize(("name", "form"), CASES)
def test_of_no_examples_nothing_is_known(name, form):
    none = answers_for(name, form, 3).take([])
    assert math.isnan(load_metric(name).value(none))
    assert math.isnan(load_metric(name).standard_error(none))


@pytest.mark.parametrize(("name", "form"), CASES)
@pytest.mark.parametrize("count", [1, 2])
def test_an_example_or_two_raise_no_warning(name, form, count):
    for seed in range(5):
        answers = answers_for(name, form, count, seed=seed)
        value, error = load_metric(name).value(answers), load_metric(name).standard_error(answers)
        assert math.isfinite(value) or name in ("auroc", "r2")
        assert not error < 0


@pytest.mark.parametrize(("name", "form"), CASES)
def test_examples_that_are_all_the_same_leave_no_doubt(name, form):
    metric, answers = load_metric(name), answers_for(name, form, 1).take([0] * 20)
    assert metric.standard_error(answers) == pytest.approx(0, abs=1e-15) or math.isnan(metric.value(answers))


PERFECT_IS_ONE = [(name, form) for name, form in CASES if METRICS[name].greater_is_better and name != "auroc"]


@pytest.mark.parametrize(("name", "form"), PERFECT_IS_ONE)
def test_perfect_predictions_score_one(name, form):
    answers = answers_for(name, form, 60)
    if form == "tokens":
        right = np.stack([answers.predictions[:, 0], answers.references], axis=1)
    else:
        right = [each[0] if each else "" for each in answers.references] if form == "texts" else answers.references
    perfect = Answers(form, right, answers.references)
    metric = load_metric(name)
    if form == "texts":  # an accepted text of articles alone is none where another has words
        perfect = perfect.take([row for row, each in enumerate(answers.references) if len(each) == 1])
    assert metric.value(perfect) == pytest.approx(1)
    assert metric.standard_error(perfect) == pytest.approx(0, abs=1e-12)


def columns_of(name, answers):
    """The arguments of compute(), as lists."""

    def plain(column):
        return (
            column.tolist()
            if isinstance(column, np.ndarray)
            else [each if isinstance(each, str) else list(each) for each in column]
        )

    given = {"predictions": plain(answers.predictions), "references": plain(answers.references)}
    return given | ({"prediction_scores": plain(answers.scores)} if load_metric(name).needs_scores else {})


@pytest.mark.parametrize(("name", "form"), CASES)
def test_compute_is_the_protocol_of_evaluate(name, form):
    metric, answers = load_metric(name), answers_for(name, form, 12)
    for rows in (range(12), range(6)):  # a metric computes again from scratch
        some = answers.take(rows)
        assert metric.compute(**columns_of(name, some)) == {name: pytest.approx(metric.value(some))}


@pytest.mark.parametrize("form", ["classes", "label_sets", "numbers", "tags", "texts", "tokens"])
def test_they_combine_as_metrics_of_evaluate(form):
    import evaluate

    names = [name for name, row in METRICS.items() if form in row.forms and name != "f1"]
    answers = answers_for("", form, 12)
    arguments = {}
    for name in names:
        arguments |= columns_of(name, answers)
    combined = evaluate.combine([load_metric(name).in_evaluate for name in names])
    assert combined.compute(**arguments) == {name: pytest.approx(load_metric(name).value(answers)) for name in names}


@pytest.mark.parametrize(
    ("values", "expected"), [([1, 3, math.nan], math.sqrt(2)), ([1, math.inf], math.nan), ([0.1] * 7, 0)]
)
def test_the_spread_is_of_values_that_are_finite(values, expected):
    assert spread(values) == pytest.approx(expected, nan_ok=True, abs=0)


@pytest.mark.parametrize(("above", "below", "expected"), [(1, 2, 0.5), (1, 0, -7), (1, math.nan, math.nan)])
def test_a_quotient_by_nothing_is_as_asked(above, below, expected):
    assert float(quotient(above, below, undefined=-7)) == pytest.approx(expected, nan_ok=True)
