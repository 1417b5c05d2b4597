"""Labels of which a text has any number: as lists and as columns, what is refused, and what logits come to."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Sequence, Value
from pyarrow import Table, parquet

from finetune.data import Rows, read_file
from finetune.errors import DataError, SettingError
from finetune.evaluation.record import MODEL, read_history
from finetune.metrics import load_metric
from finetune.tasks import TASKS, MultiLabel
from tests import tiny

LISTS = MultiLabel(text="sentence", label="tags")
COLUMNS = MultiLabel(text="sentence", labels=("b", "a"))
NAMES = ("funny", "long", "new")


def rows(**columns):
    return Rows.of_table(Table.from_pydict(columns))


def lists(*tags):
    return rows(sentence=["a film"] * len(tags), tags=list(tags))


def columns(a, b):
    return rows(sentence=["a film"] * len(a), a=a, b=b)


def class_labels(tags, names):
    features = Features({"sentence": Value("string"), "tags": Sequence(ClassLabel(names=names))})
    return Dataset.from_dict({"sentence": ["a film"] * len(tags), "tags": tags}, features=features)


GOOD = lists(["long", "funny"], [], ["new"])


def test_the_task_is_known_by_its_name():
    assert TASKS["multi_label"]().name == "multi_label"


def test_the_labels_are_the_sorted_values_of_the_train_lists_and_an_empty_list_has_none():
    classes, examples = LISTS.read({"train": GOOD, "validation": lists([], ["new", "long"])})
    assert classes == NAMES
    assert examples["train"].labels.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]
    assert examples["validation"].labels.tolist() == [[0, 0, 0], [0, 1, 1]]


def test_a_split_of_empty_lists_has_no_labels():
    assert LISTS.read({"train": GOOD, "validation": lists([], [])})[1]["validation"].labels.tolist() == [[0] * 3] * 2


@pytest.mark.parametrize("by_file", [False, True], ids=["from the Hub", "from its parquet file"])
def test_numbers_of_classes_are_matched_by_name(tmp_path, by_file):
    def read(tags, names):
        dataset = class_labels(tags, names)
        if not by_file:
            return Rows.of_dataset(dataset)
        dataset.to_parquet(str(tmp_path / "rows.parquet"))
        return read_file(tmp_path / "rows.parquet")

    train, other = read([[1], [0, 1]], ["x", "y", "z"]), read([[0], []], ["y", "x", "z"])
    classes, examples = LISTS.read({"train": train, "validation": other})
    assert classes == ("x", "y", "z")
    assert examples["train"].labels.tolist() == [[0, 1, 0], [1, 1, 0]]
    assert examples["validation"].labels.tolist() == [[0, 1, 0], [0, 0, 0]]
    assert LISTS.cautions(examples, classes)[-2:] == [
        "no train text has the label z",
        "all train texts have the label y",
    ]


@pytest.mark.parametrize(
    ("a", "b"), [([1, 0], [0, 1]), ([True, False], [False, True]), ([1.0, 0.0], [0.0, 1.0])], ids=type
)
def test_columns_of_labels_are_read_in_the_order_of_the_setting(a, b):
    classes, examples = COLUMNS.read({"train": columns(a, b)})
    assert COLUMNS.columns == ("sentence", "b", "a")
    assert classes == ("b", "a")
    assert examples["train"].labels.tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("task", "splits", "message"),
    [
        (
            LISTS,
            {"train": GOOD, "validation": lists(["new"], ["old", "long", "old"], ["old"])},
            "column \"tags\" of the validation split holds 'old' in row 2 (2 rows of this kind in all), which is no "
            "class of the train split; those are 'funny', 'long', 'new'",
        ),
        (
            LISTS,
            {"train": lists(["new"], ["long", "new", "long"])},
            'column "tags" of the train split has a label twice in row 2 (1 of this kind in all): name each label of a '
            "text once",
        ),
        (
            LISTS,
            {"train": lists(["new"], None)},
            'column "tags" of the train split is empty in row 2: fill or remove it',
        ),
        (
            LISTS,
            {"train": lists([], ["new", None], ["long", ""])},
            'column "tags" of the train split has an empty item in 2 rows, the first of them row 2: fill or remove it',
        ),
        (LISTS, {"train": lists([], [])}, 'column "tags" of the train split has no label in any row'),
        (
            LISTS,
            {"train": lists(["new"], [])},
            "column \"tags\" of the train split has only one class, 'new'; two are needed",
        ),
        (
            LISTS,
            {"train": lists([0.5], [1.5])},
            'column "tags" of the train split holds lists of float64; labels are strings, whole numbers or true/false',
        ),
        (
            LISTS,
            {"train": lists("new", "long")},
            'column "tags" of the train split holds string, not lists: name a column of lists, as json, jsonl and parquet '
            "have them",
        ),
        (
            COLUMNS,
            {"train": columns([0, 1, 2], [0, 1, 1])},
            'column "a" of the train split holds 2 in row 3 (1 row of this kind in all); a column of a label holds 0 and 1',
        ),
        (
            COLUMNS,
            {"train": columns([0, None], [0, 1])},
            'column "a" of the train split is empty in row 2: fill or remove it',
        ),
        (
            COLUMNS,
            {"train": columns(["yes", "no"], [0, 1])},
            'column "a" of the train split holds string; a column of a label holds 0 and 1, or true and false',
        ),
        (
            COLUMNS,
            {"train": columns([0, 0], [0, 1])},
            'column "a" of the train split is 0 in every row: nothing can be learnt of it; leave it out of task.labels',
        ),
        (
            COLUMNS,
            {"train": lists(["new"])},
            'the train split has no column "b"; it has sentence, tags',
        ),
    ],
    ids=[
        *("unknown", "twice", "null list", "null item", "no label", "one label", "fractions", "no lists"),
        *("two", "null", "words", "never", "no column"),
    ],
)
def test_unfit_data_is_refused(task, splits, message):
    with pytest.raises(DataError) as caught:
        task.read(splits)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threshold": 0.0}, "threshold: 0.0 must be a probability between 0 and 1"),
        ({"threshold": 1.0}, "threshold: 1.0 must be a probability between 0 and 1"),
        ({"labels": ("a",)}, "labels: names 1; two or more are needed"),
        ({"labels": ("a", "b", "a")}, "labels: a, b, a names one twice"),
        ({"labels": ("a", "text")}, 'labels: "text" is a column of texts'),
        ({"max_length": 7}, "max_length: 7 must be at least 8 tokens"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(SettingError) as caught:
        MultiLabel(**settings)
    assert str(caught.value) == message


def test_later_data_is_matched_by_name_and_needs_no_labels():
    assert LISTS.read_for(lists(["new"], []), NAMES, labelled=True).labels.tolist() == [[0, 0, 1], [0, 0, 0]]
    assert COLUMNS.read_for(columns([0], [0]), ("b", "a"), labelled=True).labels.tolist() == [[0, 0]]
    assert list(COLUMNS.read_for(rows(sentence=["x"]), ("b", "a"), labelled=False).texts) == ["x"]
    with pytest.raises(DataError, match=r"\"tags\" of the given split holds 'old' in row 1"):
        LISTS.read_for(lists(["old"]), NAMES, labelled=True)


def test_the_outline_counts_the_texts_of_each_label():
    classes, examples = LISTS.read({"train": GOOD})
    outline = LISTS.outline(examples["train"], classes)
    assert (outline.count, outline.shares) == (3, {"funny": 1, "long": 1, "new": 1})


def test_texts_that_two_splits_share_are_told_with_their_other_labels():
    train = rows(sentence=["one", "two"], tags=[["new", "long"], ["new"]])
    validation = rows(sentence=["one", "two"], tags=[["long", "new"], ["long"]])
    classes, examples = LISTS.read({"train": train, "validation": validation})
    assert LISTS.cautions(examples, classes) == [
        "2 of 2 validation texts are in train too, 1 of them with another label",
        "all train texts have the label new",
    ]


LOGITS = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32) * 5
LABELS = (np.random.default_rng(1).random((20, 3)) < 0.4).astype(np.int8)


def judged(task, logits, labels):
    return task.judge({"logits": logits}, SimpleNamespace(labels=labels), NAMES)


def test_the_losses_are_the_mean_binary_cross_entropy():
    expected = torch.nn.BCEWithLogitsLoss()(torch.tensor(LOGITS).double(), torch.tensor(LABELS).double())
    assert judged(LISTS, LOGITS, LABELS).loss == pytest.approx(expected.item(), rel=1e-12)
    outputs = SimpleNamespace(logits=torch.tensor(LOGITS))
    labels = torch.tensor(LABELS, dtype=torch.int64)
    assert LISTS.training_loss(outputs, labels).item() == pytest.approx(expected.item(), rel=1e-6)
    halved = LISTS.training_loss(outputs, labels, torch.tensor(120))
    assert halved.item() == pytest.approx(expected.item() / 2, rel=1e-6)


@pytest.mark.filterwarnings("error")
def test_large_logits_overflow_neither_loss_nor_probability():
    judgement = judged(LISTS, np.array([[1e4, -1e4, 0.0]], dtype=np.float32), np.array([[0, 0, 1]], dtype=np.int8))
    assert judgement.loss == pytest.approx((1e4 + np.log(2)) / 3)
    assert judgement.answers.scores == pytest.approx(np.array([[1.0, 0.0, 0.5]]))


def test_labels_from_the_threshold_on_are_predicted():
    logits = np.log([[3.0, 1.0, 1 / 3]])  # probabilities of 3/4, 1/2 and 1/4
    labels = np.array([[1, 0, 0]])
    at_half = judged(LISTS, logits, labels).answers
    assert at_half.predictions.tolist() == [[1, 1, 0]]
    assert at_half.references.tolist() == [[1, 0, 0]]
    assert load_metric("f1_micro").value(at_half) == pytest.approx(2 / 3)
    assert judged(MultiLabel(threshold=0.6), logits, labels).answers.predictions.tolist() == [[1, 0, 0]]
    found = LISTS.prediction_columns({"logits": logits}, None, NAMES)
    assert found["prediction"] == [["funny", "long"]]
    assert [found[f"probability_{name}"][0] for name in NAMES] == pytest.approx([0.75, 0.5, 0.25])


def splits():
    return {
        name: tiny.labelled(count, seed) for seed, (name, count) in enumerate({"train": 320, "validation": 60}.items())
    }


TASK = "{name: multi_label, text: sentence, label: labels, max_length: 32}"


@pytest.mark.slow
def test_a_run_learns_labels_and_its_model_gives_the_recorded_probabilities(train_task):
    record, run = train_task(TASK, splits(), "training.duration=6ep", "optimizer.learning_rate=3e-3")
    validation = record.results.splits["validation"]
    assert record.identity.classes == ["bad", "good", "new"]
    assert record.results.select == "f1_micro"
    assert validation.metrics["f1_micro"].value > 0.75  # of all labels for every text it is 0.57
    table = parquet.read_table(run / "predictions" / "validation.parquet").to_pydict()
    assert table["label"] == [row["labels"] for row in splits()["validation"]]
    right = [sorted(true) == sorted(found) for true, found in zip(table["label"], table["prediction"], strict=True)]
    assert sum(right) / 60 == pytest.approx(validation.metrics["exact_match"].value)

    from transformers import pipeline

    sentences = [row["sentence"] for row in splits()["validation"]]
    for row, answer in enumerate(
        pipeline("text-classification", model=str(run / MODEL), device="cpu", top_k=None)(sentences)
    ):
        found = {each["label"]: each["score"] for each in answer}
        assert found == pytest.approx({name: table[f"probability_{name}"][row] for name in found}, abs=1e-4)


@pytest.mark.slow
def test_accumulation_changes_no_loss(train_task, steady_model):
    brief = (f"model.path={steady_model}", "training.duration=1ep", "evaluation.every=null")
    _, whole = train_task(TASK, splits(), *brief)
    _, parts = train_task(TASK, splits(), *brief, "name=parts", "training.micro_batch_size=6")
    losses = [[row["loss"] for row in read_history(run) if "rates" in row] for run in (whole, parts)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
