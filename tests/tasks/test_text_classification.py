"""Reading labelled texts: how classes are found, what is refused with which message, and what logits become."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value

from finetune.data import Rows
from finetune.errors import DataError, SettingError
from finetune.tasks import TASKS, TextClassification

TASK = TextClassification(text="sentence")


def split(labels, texts=None, names=None):
    columns = {"sentence": texts or ["a film"] * len(labels), "label": labels}
    features = names and Features({"sentence": Value("string"), "label": ClassLabel(names=names)})
    return Rows.of_dataset(Dataset.from_dict(columns, features=features))


def read_labels(train, validation=None):
    classes, examples = TASK.read({"train": train, "validation": validation or train})
    return classes, list(examples["train"].labels), list(examples["validation"].labels)


def test_the_task_is_known_by_its_name():
    assert TASKS["text_classification"]().name == "text_classification"


@pytest.mark.parametrize(
    ("labels", "names", "numbers"),
    [
        (["positive", "negative", "positive"], ("negative", "positive"), [1, 0, 1]),
        ([5, 3, 10], ("3", "5", "10"), [1, 0, 2]),
        ([0, -1, 1], ("-1", "0", "1"), [1, 0, 2]),
        ([True, False, True], ("false", "true"), [1, 0, 1]),
    ],
    ids=["text", "numbers by size", "-1 among others", "booleans"],
)
def test_classes_are_the_sorted_values_of_the_train_split(labels, names, numbers):
    assert read_labels(split(labels)) == (names, numbers, numbers)


def test_class_names_keep_the_order_of_the_data_set():
    names = ["positive", "negative", "unused"]
    assert read_labels(split([1, 0], names=names)) == (tuple(names), [1, 0], [1, 0])


@pytest.mark.parametrize(
    ("train", "validation"),
    [
        (split([0, 1], names=["bad", "good"]), split([0, 1], names=["good", "bad"])),
        (split([0, 1], names=["bad", "good"]), split(["good", "bad"])),
        (split(["bad", "good"]), split([0, 1], names=["good", "bad"])),
    ],
    ids=["other order", "names, then text", "text, then names"],
)
def test_splits_are_matched_by_the_names_of_their_classes(train, validation):
    assert read_labels(train, validation) == (("bad", "good"), [0, 1], [1, 0])


def test_texts_keep_their_order():
    _, examples = TASK.read({"train": split([0, 1], texts=["b", "a"])})
    assert list(examples["train"].texts) == ["b", "a"]
    assert examples["train"].pairs is None


def test_pairs_are_read_from_their_own_column():
    task = TextClassification(text="question", text_pair="answer")
    assert task.columns == ("question", "answer", "label")
    pairs = rows(answer=["c", "d"], question=["a", "b"], label=[0, 1])
    examples = task.read({"train": pairs})[1]["train"]
    assert (list(examples.texts), list(examples.pairs)) == (["a", "b"], ["c", "d"])


GOOD = split(["bad", "good"])


def rows(**columns):
    return Rows.of_dataset(Dataset.from_dict(columns))


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (
            {"train": GOOD, "validation": split(["good", "bad", "fine", "fine"])},
            "column \"label\" of the validation split holds 'fine' in row 3 (2 rows of this kind in all), which is no "
            "class of the train split; those are 'bad', 'good'",
        ),
        (
            {"train": split([0, 1]), "validation": split(["0", "1"])},
            "column \"label\" of the validation split holds '0' in row 1 (2 rows of this kind in all), which is no class "
            "of the train split; those are 0, 1",
        ),
        (
            {"train": split([0, 1], names=["bad", "good"]), "test": split([-1, -1], names=["bad", "good"])},
            'column "label" of the test split is -1 in every row: it has no labels, so it can\'t be scored; '
            "leave the split out",
        ),
        (
            {"train": GOOD, "validation": rows(sentence=["a", "b", "c"], label=["bad", None, None])},
            'column "label" of the validation split is empty in 2 rows, the first of them row 2: fill or remove them',
        ),
        (
            {"train": rows(sentence=["a", "b"], label=["bad", ""])},
            'column "label" of the train split is empty in row 2: fill or remove it',
        ),
        (
            {"train": rows(sentence=[None, "b"], label=["bad", "good"])},
            'column "sentence" of the train split is empty in row 1: fill or remove it',
        ),
        (
            {"train": rows(sentences=["a"], label=["bad"], idx=[1])},
            'the train split has no column "sentence"; it has sentences, label, idx (did you mean sentences?)',
        ),
        (
            {"train": GOOD, "test": rows(sentence=["a"], stars=["bad"])},
            'the test split has no column "label"; it has sentence, stars',
        ),
        ({"train": GOOD, "validation": split([])}, "the validation split is empty"),
        (
            {"train": split(["bad", "bad"])},
            "column \"label\" of the train split has only one class, 'bad'; two are needed",
        ),
        (
            {"train": split([0, 0], names=["bad"])},
            "column \"label\" of the train split has only one class, 'bad'; two are needed",
        ),
        (
            {"train": rows(sentence=[1, 2], label=["bad", "good"])},
            'column "sentence" of the train split holds int64, not text; name the column of texts, or write them as strings',
        ),
        (
            {"train": split([0.5, 1.5])},
            'column "label" of the train split holds float64; classes are whole numbers, true/false or strings',
        ),
        (
            {"train": split([["bad"], ["good"]])},
            'column "label" of the train split holds lists; classes are whole numbers, true/false or strings',
        ),
    ],
    ids=[
        "label unknown to training",
        "text for numbers",
        "no labels",
        "null label",
        "empty label",
        "null text",
        "near column",
        "no column",
        "empty split",
        "one class",
        "one name",
        "numbers for text",
        "fractions",
        "lists",
    ],
)
def test_unfit_data_is_refused(splits, message):
    with pytest.raises(DataError) as caught:
        TASK.read(splits)
    assert str(caught.value) == message


def test_an_empty_text_is_a_text():
    assert list(TASK.read({"train": split([0, 1], texts=["", "a"])})[1]["train"].texts) == ["", "a"]


def test_fewer_than_eight_tokens_are_refused():
    assert TextClassification(max_length=8).max_length == 8
    with pytest.raises(SettingError, match="max_length: 7 must be at least 8 tokens"):
        TextClassification(max_length=7)


def test_examples_are_cut_to_the_length_of_the_task(tokenizer):
    task = TextClassification(text="sentence", max_length=8)
    _, examples = task.read({"train": split([0, 1], texts=["film " * 20, "film"])})
    encoded = task.encode(examples["train"], tokenizer)
    assert list(encoded.lengths) == [8, 3]
    assert encoded.truncated == 1


LOGITS = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32) * 5
LABELS = np.arange(20) % 3


def judged(logits, labels):
    return TASK.judge({"logits": logits}, SimpleNamespace(labels=labels), ["a", "b", "c"])


def columns(logits, names):
    return TASK.prediction_columns({"logits": logits}, None, names)


def test_the_class_of_the_largest_logit_is_predicted():
    answers = judged(np.array([[0.1, 2.0, -3.0], [-1.0, -2.0, -0.5]]), np.array([1, 0])).answers
    assert list(answers.predictions) == [1, 2]
    assert list(answers.references) == [1, 0]
    assert answers.names == ("a", "b", "c")


def test_the_loss_is_the_mean_cross_entropy():
    expected = torch.nn.functional.cross_entropy(torch.tensor(LOGITS).double(), torch.tensor(LABELS))
    assert judged(LOGITS, LABELS).loss == pytest.approx(expected.item(), rel=1e-12)


def test_the_loss_of_even_logits_is_the_logarithm_of_the_number_of_classes():
    assert judged(np.zeros((4, 3)), np.array([0, 1, 2, 0])).loss == pytest.approx(np.log(3))


def test_large_logits_overflow_neither_loss_nor_probability():
    logits = np.array([[1e4, 0.0]], dtype=np.float32)
    assert judged(logits, np.array([1])).loss == pytest.approx(1e4)
    assert columns(logits, ["a", "b"])["probability_a"] == pytest.approx([1.0])


def test_prediction_columns_are_the_class_and_the_softmax():
    names = ["a", "b", "c"]
    found = columns(LOGITS, names)
    probabilities = torch.softmax(torch.tensor(LOGITS).double(), dim=-1).numpy()
    assert list(found) == ["prediction", "probability_a", "probability_b", "probability_c"]
    assert found["prediction"] == [names[number] for number in probabilities.argmax(axis=1)]
    assert np.stack([found[f"probability_{name}"] for name in names], axis=1) == pytest.approx(probabilities)
    assert judged(LOGITS, LABELS).answers.scores == pytest.approx(probabilities)


@pytest.mark.parametrize(
    ("labels", "names"),
    [(["bad", "good"], ("bad", "good")), ([0, 1], ("0", "1")), ([False, True], ("false", "true"))],
    ids=["text", "numbers", "booleans"],
)
def test_labels_of_later_data_are_matched_by_the_names_of_their_classes(labels, names):
    later = TASK.read_for(split([labels[1], labels[0], labels[1]]), names, labelled=True)
    assert list(later.labels) == [1, 0, 1]


def test_a_later_label_that_is_no_class_is_refused():
    with pytest.raises(DataError, match=r"column \"label\" of the given split holds 'fine' in row 2 \(1 row"):
        TASK.read_for(split(["bad", "fine"]), ("bad", "good"), labelled=True)


def test_later_data_needs_no_labels():
    assert list(TASK.read_for(rows(sentence=["a", "b"]), ("bad", "good"), labelled=False).texts) == ["a", "b"]
