"""Numbers of texts: what is read and refused, and what a model's one output comes to."""

from types import SimpleNamespace

import numpy as np
import pyarrow.parquet
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value
from pyarrow import Table

from finetune.data import Rows
from finetune.errors import DataError
from finetune.evaluation.record import MODEL, read_history
from finetune.metrics import load_metric
from finetune.tasks import TASKS, TextRegression
from tests import tiny

TASK = TextRegression(text="sentence", label="rating")


def rows(**columns):
    return Rows.of_table(Table.from_pydict(columns))


def rated(*ratings):
    return rows(sentence=["a film"] * len(ratings), rating=list(ratings))


GOOD = rated(0.5, 1.5)


def test_the_task_is_known_by_its_name():
    assert TASKS["text_regression"]().name == "text_regression"


@pytest.mark.parametrize("ratings", [[1.5, -2.0, 0.0], [3, -1, 2]], ids=["fractions", "whole numbers"])
def test_numbers_are_read_in_order_without_classes(ratings):
    classes, examples = TASK.read({"train": rated(*ratings)})
    assert classes == ()
    assert examples["train"].labels.dtype == np.float64
    assert list(examples["train"].labels) == ratings


def test_pairs_are_read_from_their_own_column():
    task = TextRegression(text="one", text_pair="other", label="score")
    examples = task.read({"train": rows(one=["a", "b"], other=["c", "d"], score=[0.0, 5.0])})[1]["train"]
    assert (list(examples.texts), list(examples.pairs)) == (["a", "b"], ["c", "d"])


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (
            {"train": GOOD, "validation": rated(1.0, None, 2.0)},
            'column "rating" of the validation split is empty in row 2: fill or remove it',
        ),
        (
            {"train": rated(1.0, float("nan"), 2.0, float("inf"))},
            'column "rating" of the train split holds nan in row 2 (2 rows of this kind in all); labels are finite '
            "numbers, up to 3e38: correct or remove them",
        ),
        (
            {"train": rated(1.0, 1e39)},
            'column "rating" of the train split holds 1e+39 in row 2 (1 row of this kind in all); labels are finite '
            "numbers, up to 3e38: correct or remove them",
        ),
        (
            {"train": rated("1.0", "good")},
            'column "rating" of the train split holds string, not numbers; name the column of numbers, or write them '
            "as numbers",
        ),
        (
            {"train": rated(True, False)},
            'column "rating" of the train split holds bool, not numbers; name the column of numbers, or write them as '
            "numbers",
        ),
        (
            {"train": GOOD, "test": rated(-1.0, -1.0)},
            'column "rating" of the test split is -1 in every row: nothing can be learnt from it, and no correlation '
            "with it is defined; give the column of numbers, or leave the split out",
        ),
        (
            {"train": rows(sentence=["a"], ratings=[1.0])},
            'the train split has no column "rating"; it has sentence, ratings (did you mean ratings?)',
        ),
        ({"train": GOOD, "validation": rated()}, "the validation split is empty"),
    ],
    ids=["null", "not finite", "beyond float32", "text", "truth", "one number", "no column", "empty split"],
)
def test_unfit_data_is_refused(splits, message):
    with pytest.raises(DataError) as caught:
        TASK.read(splits)
    assert str(caught.value) == message


def test_numbers_of_classes_are_no_numbers():
    features = Features({"sentence": Value("string"), "rating": ClassLabel(names=["bad", "good"])})
    classes = Dataset.from_dict({"sentence": ["a", "b"], "rating": [0, 1]}, features=features)
    with pytest.raises(DataError, match='"rating" of the train split numbers the classes bad, good; name a column'):
        TASK.read({"train": Rows.of_dataset(classes)})


def test_later_data_may_be_one_row_and_needs_no_labels():
    assert list(TASK.read_for(rated(2.5), (), labelled=True).labels) == [2.5]
    assert list(TASK.read_for(rows(sentence=["a", "b"]), (), labelled=False).texts) == ["a", "b"]


def test_texts_that_two_splits_share_are_told_with_their_other_numbers():
    splits = {
        "train": rows(sentence=["a film", "b"], rating=[1.0, 2.0]),
        "validation": rows(sentence=["a film", "b"], rating=[1.0, 3.0]),
    }
    classes, examples = TASK.read(splits)
    assert TASK.cautions(examples, classes) == [
        "2 of 2 validation texts are in train too, 1 of them with another label"
    ]


def test_the_loss_is_the_sum_of_squares_over_the_numbers_of_the_whole_batch():
    logits, labels = torch.tensor([[1.0], [-2.0], [0.5]]), torch.tensor([0.0, -4.0, 0.5])
    outputs = SimpleNamespace(logits=logits)
    assert TASK.training_loss(outputs, labels).item() == pytest.approx((1 + 4 + 0) / 3)
    assert TASK.training_loss(outputs, labels, torch.tensor(10)).item() == pytest.approx(5 / 10)


def test_half_precision_is_summed_in_full():
    logits, labels = torch.full((4, 1), 300.0, dtype=torch.float16), torch.zeros(4)
    assert TASK.training_loss(SimpleNamespace(logits=logits), labels).item() == 90000.0  # beyond the largest float16


def test_outputs_are_judged_in_double_precision():
    logits, labels = np.array([[1.0], [2.0], [4.0]], dtype=np.float32), np.array([0.1, 2.0, 3.0])
    judgement = TASK.judge({"logits": logits}, SimpleNamespace(labels=labels), ())
    assert judgement.loss == pytest.approx((0.9**2 + 0 + 1) / 3, rel=1e-12)
    assert judgement.answers.predictions.dtype == np.float64
    assert load_metric("rmse").value(judgement.answers) == pytest.approx(np.sqrt(1.81 / 3))
    assert load_metric("pearson").value(judgement.answers) == pytest.approx(np.corrcoef([1, 2, 4], labels)[0, 1])


def splits():
    return {
        name: tiny.rated(count, seed) for seed, (name, count) in enumerate({"train": 320, "validation": 60}.items())
    }


@pytest.mark.slow
def test_a_run_learns_ratings_and_leaves_a_model_that_answers_with_them(train_task):
    record, run = train_task(
        "{name: text_regression, text: sentence, label: rating, max_length: 32}", splits(), "training.duration=6ep"
    )
    validation = record.results.splits["validation"]
    assert record.identity.classes == []
    assert (record.results.select, list(validation.metrics)) == ("pearson", ["pearson", "spearman", "rmse"])
    assert validation.metrics["pearson"].value > 0.8
    assert validation.loss == pytest.approx(validation.metrics["rmse"].value ** 2)

    from transformers import pipeline

    table = pyarrow.parquet.read_table(run / "predictions" / "validation.parquet").to_pydict()
    assert table["label"] == [row["rating"] for row in splits()["validation"]]
    sentences = [row["sentence"] for row in splits()["validation"]]
    answers = pipeline("text-classification", model=str(run / MODEL), device="cpu")(sentences)
    assert [answer["score"] for answer in answers] == pytest.approx(table["prediction"], abs=1e-4)


@pytest.mark.slow
def test_accumulation_changes_no_loss(train_task, steady_model):
    task = "{name: text_regression, text: sentence, label: rating, max_length: 32}"
    brief = (f"model.path={steady_model}", "training.duration=1ep", "evaluation.every=null")
    _, whole = train_task(task, splits(), *brief)
    _, parts = train_task(task, splits(), *brief, "name=parts", "training.micro_batch_size=6")
    losses = [[row["loss"] for row in read_history(run) if "rates" in row] for run in (whole, parts)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
