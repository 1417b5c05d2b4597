"""Multiple choice: how choices and labels are read, what is refused, and what a model is given of them."""

from dataclasses import replace
from fractions import Fraction
from functools import partial
from types import SimpleNamespace

import numpy as np
import pyarrow
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value
from pyarrow import parquet
from transformers import AutoModelForMultipleChoice, AutoTokenizer

from finetune.data import Rows
from finetune.errors import DataError, SettingError
from finetune.evaluation.record import read_history
from finetune.recipe import load_recipe
from finetune.tasks import TASKS, as_task
from finetune.tasks.multiple_choice import Choices, InTurn, JoinedChoices, MultipleChoice
from finetune.training.material import Library
from finetune.training.preview import preview_run
from tests.tiny import write_task_recipe

LISTS = MultipleChoice(text="start")
THREE = [["film", "a dull story", "night"], ["brilliant", "the", "an end"]]


def rows(**columns):
    return Rows.of_dataset(Dataset.from_dict(columns))


def listed(labels, choices=THREE):
    return rows(start=["after a", "before the city"][: len(choices)], choices=choices, label=labels)


def test_the_task_is_known_by_its_name_and_its_settings_are_plain_values():
    task = as_task({"name": "multiple_choice", "choices": ["one", "two"]})
    assert TASKS["multiple_choice"] is MultipleChoice
    assert task == as_task(task.to_dict()) == MultipleChoice(choices=("one", "two"))
    assert task.columns == ("one", "two", "label")


def test_choices_are_read_from_a_column_of_lists():
    names, examples = LISTS.read({"train": listed([2, 0])})
    train = examples["train"]
    assert names == ("0", "1", "2")
    assert list(train.texts) == [*THREE[0], *THREE[1]]
    assert list(train.contexts) == ["after a", "before the city"]
    assert list(train.labels) == [2, 0]
    assert (len(train), train.count) == (2, 3)


def test_choices_are_read_from_a_column_for_each():
    task = MultipleChoice(choices=("a", "b", "c"))
    _, by_column = task.read(
        {"train": rows(a=["film", "brilliant"], b=["a dull story", "the"], c=["night", "an end"], label=[2, 0])}
    )
    assert list(by_column["train"].texts) == [*THREE[0], *THREE[1]]
    assert by_column["train"].contexts is None


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([2, 0], ("0", "1", "2")),
        (["2", "0"], ("0", "1", "2")),
        (["C", "A"], ("A", "B", "C")),
    ],
    ids=["numbers", "digits", "letters"],
)
def test_a_label_is_the_number_or_the_letter_of_the_right_choice(labels, names):
    found, examples = LISTS.read({"train": listed(labels)})
    assert (found, list(examples["train"].labels)) == (names, [2, 0])


def test_a_class_label_counts_by_the_names_of_its_classes():
    features = Features({"a": Value("string"), "b": Value("string"), "label": ClassLabel(names=["1", "0"])})
    given = Dataset.from_dict({"a": ["x", "y"], "b": ["z", "w"], "label": [0, 1]}, features=features)
    _, examples = MultipleChoice(choices=("a", "b")).read({"train": Rows.of_dataset(given)})
    assert list(examples["train"].labels) == [1, 0]


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (
            {"train": listed([0, 1], [["a", "b"], ["a", "b", "c"]])},
            'column "choices" of the train split has 2 choices in row 1 and 3 in row 2 (1 row unlike the first in all); '
            "every row must have as many: remove those that haven't",
        ),
        (
            {"train": listed([0], [["a"]])},
            'column "choices" of the train split has 1 choices in every row; from 2 to 26 can be chosen from',
        ),
        (
            {"train": listed([0, 1]), "test": listed([0, 1], [["a", "b"]] * 2)},
            "the test split has 2 choices in a row, and the train split has 3: they must be as many",
        ),
        (
            {"train": listed([1, 3])},
            'column "label" of the train split holds 3 in row 2 (1 row of this kind in all), which is no choice; those '
            "are 0, 1, 2",
        ),
        (
            {"train": listed([0, 1], [["a", "b"], ["a", None]])},
            'column "choices" of the train split lacks one of the texts of row 2: fill or remove it',
        ),
        (
            {"train": listed([0, 1], [["a", "b"], None])},
            'column "choices" of the train split is empty in row 2: fill or remove it',
        ),
        (
            {"train": listed([0, 1], [[1, 2], [3, 4]])},
            'column "choices" of the train split holds lists of int64, not lists of texts; name the column of lists, or '
            "write them as such",
        ),
        (
            {"train": listed([0, 1], ["a", "b"])},
            'column "choices" of the train split holds string, not lists of texts; name the column of lists, or write '
            "them as such",
        ),
        (
            {"train": listed([0, 1]), "test": listed([-1, -1])},
            'column "label" of the test split is -1 in every row: it has no labels, so it can\'t be scored; leave the '
            "split out",
        ),
    ],
    ids=["unequal", "one", "splits", "no choice", "no text", "no list", "numbers", "no lists", "no labels"],
)
def test_unfit_data_is_refused(splits, message):
    with pytest.raises(DataError) as caught:
        LISTS.read(splits)
    assert str(caught.value) == message


def test_the_row_that_lacks_a_text_is_found_in_data_of_many_pieces():
    pieces = pyarrow.chunked_array([[["a", "b"], ["c", "d"]], [["e", "f"], ["g", None]]])
    table = pyarrow.table({"choices": pieces, "label": [0, 1, 0, 1]})
    with pytest.raises(DataError, match="one of the texts of row 4"):
        MultipleChoice().read({"train": Rows(table, {})})
    assert list(MultipleChoice().read({"train": Rows(table.slice(1, 2), {})})[1]["train"].texts) == ["c", "d", "e", "f"]


@pytest.mark.parametrize("choices", [("one",), ("one", "one"), ()])
def test_a_single_column_of_choices_is_refused(choices):
    with pytest.raises(SettingError, match="name two columns or more"):
        MultipleChoice(choices=choices)


def test_later_data_is_matched_by_the_number_of_choices_and_needs_no_labels():
    assert list(LISTS.read_for(listed([2, 1]), ("0", "1", "2"), labelled=True).labels) == [2, 1]
    assert len(LISTS.read_for(rows(start=["a"], choices=[["x", "y", "z"]]), ("0", "1", "2"), labelled=False)) == 1
    with pytest.raises(DataError, match="the given split has 3 choices in a row, and the model was trained on 2"):
        LISTS.read_for(listed([0, 1]), ("0", "1"), labelled=True)


@pytest.mark.parametrize("start", range(7))
@pytest.mark.parametrize("stop", range(7))
def test_columns_in_turn_are_cut_anywhere(start, stop):
    texts = InTurn((["a", "b"], ["c", "d"], ["e", "f"]))
    expected = ["a", "c", "e", "b", "d", "f"]
    assert texts[start:stop] == expected[start:stop]
    assert [texts[number] for number in range(-6, 6)] == [expected[number] for number in range(-6, 6)]
    assert list(JoinedChoices(texts, 3)) == ["a\nc\ne", "b\nd\nf"]
    assert JoinedChoices(texts, 3)[1:2] == ["b\nd\nf"]


@pytest.fixture
def encoded(tokenizer):
    return LISTS.encode(LISTS.read({"train": listed([2, 0])})[1]["train"], tokenizer)


def test_each_choice_is_tokenised_after_its_context(encoded, tokenizer):
    expected = tokenizer(["after a"] * 3, THREE[0])["input_ids"]
    assert [list(each["input_ids"]) for each in encoded[0]["sequences"]] == expected
    assert list(encoded.lengths) == [max(map(len, expected)), 8]
    assert (encoded[0]["labels"], len(encoded), encoded.truncated) == (2, 2, 0)


def test_an_example_is_cut_once_however_many_of_its_choices_are(tokenizer):
    examples = Choices(["film " * 20, "story " * 20, "film", "night"], None, np.array([0, 1]), 2)
    assert MultipleChoice(max_length=8).encode(examples, tokenizer).truncated == 1


def test_a_batch_is_what_the_tokenizer_pads(encoded, tokenizer):
    batch = LISTS.collator(tokenizer)([encoded[0], encoded[1]])
    texts = (["after a"] * 3 + ["before the city"] * 3, THREE[0] + THREE[1])
    expected = tokenizer(*texts, padding=True, pad_to_multiple_of=8, return_tensors="pt")
    assert batch["input_ids"].shape == (2, 3, 8)
    for name in ("input_ids", "token_type_ids", "attention_mask"):
        assert torch.equal(batch[name], expected[name].view(2, 3, -1))
    assert batch["labels"].tolist() == [2, 0]


def test_examples_are_selected_whole(encoded):
    chosen = encoded.select(np.array([1]))
    assert [list(each["input_ids"]) for each in chosen[0]["sequences"]] == [
        list(each["input_ids"]) for each in encoded[1]["sequences"]
    ]
    assert (list(chosen.rows), list(chosen.lengths)) == ([1], [8])
    assert list(encoded.sorted_by_length().lengths) == sorted(encoded.lengths, reverse=True)


def test_a_choice_without_a_token_is_refused(encoded):
    lengths = encoded.sequences.lengths.copy()
    lengths[4] = 0
    without = replace(encoded, sequences=replace(encoded.sequences, lengths=lengths))
    with pytest.raises(DataError, match=r"no token of 1 of the 6 choices of the test split.* choice 1 of row 2"):
        without.check("test")


def test_the_loss_is_that_of_transformers_model(encoded, tokenizer, source):
    loaded = LISTS.load_model(source, classes=("0", "1", "2"), processor=tokenizer, seed=0)
    model = loaded.model.eval()
    batch = LISTS.collator(tokenizer)([encoded[0], encoded[1]])
    labels = batch.pop("labels")
    outputs = model(**batch, labels=labels)
    assert outputs.logits.shape == (2, 3)
    assert set(loaded.new_tensors) == {"classifier.weight", "classifier.bias"}
    assert LISTS.training_loss(outputs, labels).item() == pytest.approx(outputs.loss.item(), rel=1e-6)
    assert LISTS.training_loss(outputs, labels, 8).item() == pytest.approx(outputs.loss.item() / 4, rel=1e-6)


def test_the_choice_of_the_largest_logit_is_predicted():
    logits = np.array([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]])
    judged = LISTS.judge({"logits": logits}, SimpleNamespace(labels=np.array([1, 2])), ("A", "B", "C"))
    assert list(judged.answers.predictions) == [1, 0]
    assert judged.loss == pytest.approx(np.mean([np.log(1 + np.exp(-2) + np.exp(-1)), 3 + np.log(1 + 2 * np.exp(-3))]))


def test_shared_and_repeated_examples_are_told_of():
    _, examples = LISTS.read({"train": listed([2, 0]), "validation": listed([1, 0])})
    assert LISTS.cautions(examples, ("0", "1", "2")) == [
        "2 of 2 validation texts are in train too, 1 of them with another label"
    ]


GOOD, BAD = "brilliant charming delightful superb".split(), "awful boring dreary stale".split()


def questions(count, seed):
    """Returns `count` rows of which one choice, at a drawn place, is good, and two are bad."""
    draw = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        label = int(draw.integers(3))
        words = [draw.choice(GOOD if place == label else BAD, 3) for place in range(3)]
        made.append({"start": "the film", "choices": [" ".join(each) for each in words], "label": "ABC"[label]})
    return made


SETTINGS = "{name: multiple_choice, text: start, max_length: 32}"


@pytest.fixture
def choose(train_task):
    """A function that trains the tiny model on questions, with overrides; returns the record and the directory."""
    splits = {"train": questions(96, 1), "validation": questions(48, 2), "test": questions(48, 3)}
    return partial(train_task, SETTINGS, splits)


def test_a_run_learns_to_choose_and_leaves_what_it_should(choose):
    record, run = choose()
    assert record.identity.classes == ["A", "B", "C"]
    assert record.results.splits["test"].metrics["accuracy"].value > 0.9
    table = parquet.read_table(run / "predictions" / "test.parquet").to_pydict()
    assert table["label"] == [row["label"] for row in questions(48, 3)]
    assert list(table) == ["row", "label", "prediction", "probability_A", "probability_B", "probability_C", "score"]

    model = AutoModelForMultipleChoice.from_pretrained(run / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    row = questions(48, 3)[0]
    tokens = tokenizer([row["start"]] * 3, row["choices"], padding=True, return_tensors="pt")
    logits = model(**{name: tensor[None] for name, tensor in tokens.items()}).logits
    assert torch.softmax(logits[0], -1).tolist() == pytest.approx(
        [table[f"probability_{letter}"][0] for letter in "ABC"], abs=1e-5
    )


def test_micro_batches_change_no_loss(choose, steady_model):
    brief = ("training.duration=6", "evaluation.every=null", f"model.path={steady_model}")
    (_, whole), (_, parts) = choose(*brief), choose(*brief, "training.micro_batch_size=6", "name=parts")
    losses = [[row["loss"] for row in read_history(run) if "rates" in row] for run in (whole, parts)]
    assert len(losses[0]) == 6
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_the_tokens_of_a_run_are_counted_before_it_as_in_it(tmp_path, tiny_model):
    path = write_task_recipe(tmp_path, tiny_model, SETTINGS, {"train": questions(20, 1), "validation": questions(9, 2)})
    recipe = load_recipe(path, ["schedule.warmup=300 tokens", "training.batch_size=4"])
    lengths = Library().material(recipe).splits["train"].lengths
    assert preview_run(recipe, source=path).horizon.run.tokens_per_update == Fraction(int(lengths.sum()), 5)
