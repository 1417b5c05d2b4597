"""What each example scored, read from predictions: for the interval over seeds and examples at once."""

import json

import pytest

from finetune.errors import RecordError

# Of two seeds and four examples: squared errors whose means are 2.5 and 3.5, and 2.0 and 3.0.
SQUARED = {"cosine": [[1.0, 2.0, 3.0, 4.0], [2.0, 3.0, 4.0, 5.0]], "step": [[0.5, 1.5, 2.5, 3.5], [1.5, 2.5, 3.5, 4.5]]}


@pytest.fixture
def scored(make_record, save):
    """A function that saves runs of an mse over four examples with the columns of their predictions."""

    def scored(columns_of):
        for schedule, seeds in SQUARED.items():
            for seed, squares in enumerate(seeds):
                record = make_record(schedule, sum(squares) / 4, seed=seed, metric="mse")
                plain = json.loads(record.model_dump_json())
                plain["results"]["splits"]["test"]["count"] = plain["identity"]["data"]["test"]["count"] = 4
                yield save(type(record).model_validate_json(json.dumps(plain)), predictions=columns_of(squares))

    return lambda columns_of: list(scored(columns_of))


def test_the_interval_over_examples_is_of_what_each_scored(scored, analysed):
    (contrast,) = analysed(
        scored(lambda squares: {"label": [0.0] * 4, "prediction": [1.0] * 4, "score": squares})
    ).contrasts
    # Whatever seeds and examples are drawn, step is better by 0.5 in each.
    assert (contrast.first, contrast.bootstrap.estimate) == ("step", -0.5)
    assert (contrast.bootstrap.low, contrast.bootstrap.high) == (-0.5, -0.5)


def test_labels_and_predictions_say_nothing_of_a_metric_other_than_accuracy(scored, analysed):
    (contrast,) = analysed(scored(lambda squares: {"label": [0.0] * 4, "prediction": squares})).contrasts
    assert contrast.bootstrap is None
    assert contrast.interval.estimate == pytest.approx(-0.5)


def test_scores_that_contradict_the_record_are_refused(scored, analysed):
    runs = scored(lambda squares: {"score": [*squares[:-1], 9.0]})
    with pytest.raises(RecordError) as caught:
        analysed(runs)
    assert str(caught.value) == (
        f"{runs[2].path / 'predictions' / 'test.parquet'}: the mean score of 4 examples is 3.375, and the record says "
        "mse 2 of 4; one of them was altered, so run again"
    )


@pytest.mark.parametrize(
    "score", [[1.0, 2.0, 3.0, None], [1.0, 2.0, 3.0, float("nan")], ["a", "b", "c", "d"], [[1.0]] * 4]
)
def test_scores_that_are_no_finite_numbers_are_refused(scored, analysed, score):
    with pytest.raises(RecordError, match="can't be read as predictions"):
        analysed(scored(lambda squares: {"score": score}))


def test_an_accuracy_over_tokens_is_not_taken_for_one_over_examples(make_record, save):
    run = save(make_record(), predictions={"label": [["a", "b"]] * 1000, "prediction": [["a", "b"]] * 1000})
    assert run.example_scores("test") is None


def test_scores_stand_before_labels_and_predictions(make_record, save):
    right = [1.0] * 850 + [0.0] * 150
    run = save(make_record(), predictions={"label": ["a"] * 1000, "prediction": ["a"] * 1000, "score": right})
    assert run.example_scores("test").tolist() == right
