"""Entities in sequences of tags, against seqeval."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval import metrics as seqeval
from seqeval.metrics.sequence_labeling import get_entities

from finetune.metrics import load_metric
from finetune.metrics.answers import Answers
from finetune.metrics.tagging import entities

SEQEVAL = {
    "entity_f1": seqeval.f1_score,
    "entity_precision": seqeval.precision_score,
    "entity_recall": seqeval.recall_score,
}
TAG = st.sampled_from(["O", "O", "B-PER", "I-PER", "E-PER", "S-PER", "B-LOC", "I-LOC", "I-LOC-2", "B", "I"])
PAIRS = st.lists(st.lists(st.tuples(TAG, TAG), min_size=1, max_size=8), min_size=1, max_size=6)


def split(pairs):
    return [[one for one, _ in each] for each in pairs], [[other for _, other in each] for each in pairs]


@given(tags=st.lists(TAG, max_size=12))
def test_entities_are_those_of_seqeval(tags):
    expected = {(kind.strip("_"), first, last + 1) for kind, first, last in get_entities(tags)}
    assert entities(tags) == expected


@pytest.mark.filterwarnings("ignore:.*ill-defined")
@pytest.mark.parametrize("name", SEQEVAL)
@given(pairs=PAIRS)
def test_value_is_that_of_seqeval(name, pairs):
    predictions, references = split(pairs)
    expected = SEQEVAL[name](references, predictions, zero_division=0)
    assert load_metric(name).value(Answers("tags", predictions, references)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("B-PER I-PER O B-LOC", {("PER", 0, 2), ("LOC", 3, 4)}),
        ("B-PER B-PER", {("PER", 0, 1), ("PER", 1, 2)}),
        ("I-PER I-LOC", {("PER", 0, 1), ("LOC", 1, 2)}),
        ("PER PER O PER LOC", {("PER", 0, 2), ("PER", 3, 4), ("LOC", 4, 5)}),
        ("NOUN B-NOUN", {("NOUN", 0, 1), ("NOUN", 1, 2)}),
        ("O O", set()),
        ("", set()),
    ],
)
def test_entities_by_hand(tags, expected):
    assert entities(tags.split()) == expected


def test_an_entity_is_right_as_a_whole():
    answers = Answers("tags", [["B-PER", "O", "B-LOC"]], [["B-PER", "I-PER", "B-LOC"]])
    assert load_metric("entity_f1").value(answers) == pytest.approx(2 * 1 / (2 + 2))
    assert load_metric("token_accuracy").value(answers) == pytest.approx(2 / 3)


@pytest.mark.parametrize("name", SEQEVAL)
def test_where_there_are_no_entities_the_value_is_zero(name):
    answers = Answers("tags", [["O", "O"], []], [["O", "O"], []])
    assert (load_metric(name).value(answers), load_metric(name).standard_error(answers)) == (0.0, 0.0)


@given(pairs=PAIRS)
def test_the_accuracy_of_tokens_is_of_all_of_them_together(pairs):
    predictions, references = split(pairs)
    expected = np.mean(np.concatenate(predictions) == np.concatenate(references))
    assert load_metric("token_accuracy").value(Answers("tags", predictions, references)) == pytest.approx(expected)
