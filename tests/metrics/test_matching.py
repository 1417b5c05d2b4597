"""Metrics of whole answers, against torchmetrics, scikit-learn and the rules of SQuAD."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as scikit
from torchmetrics.functional.text import squad

from finetune.metrics import load_metric
from finetune.metrics.answers import Answers

WORD = st.sampled_from(["The", "a", "an", "cat", "CAT", "sat.", "mat", "theory", "-", "42%"])
TEXT = st.lists(WORD, max_size=4).map(" ".join)
WITH_WORDS = st.lists(WORD, max_size=3).map(lambda words: " ".join([*words, "dog"]))


def of_texts(*pairs):
    return Answers("texts", [given for given, _ in pairs], [accepted for _, accepted in pairs])


@given(pairs=st.lists(st.tuples(TEXT, st.lists(WITH_WORDS, min_size=1, max_size=3).map(tuple)), min_size=1, max_size=5))
def test_texts_are_scored_as_in_squad(pairs):
    found = squad(
        [{"prediction_text": given, "id": str(number)} for number, (given, _) in enumerate(pairs)],
        [
            {"answers": {"answer_start": [0] * len(accepted), "text": list(accepted)}, "id": str(number)}
            for number, (_, accepted) in enumerate(pairs)
        ],
    )
    answers = of_texts(*pairs)
    assert 100 * load_metric("exact_match").value(answers) == pytest.approx(float(found["exact_match"]), rel=1e-5)
    assert 100 * load_metric("answer_f1").value(answers) == pytest.approx(float(found["f1"]), rel=1e-5)


@pytest.mark.parametrize(
    ("given", "accepted", "exact", "f1"),
    [
        ("The cat!", ("cat",), 1, 1),
        ("the black cat", ("a cat", "black dog"), 0, 2 / 3),
        ("cat cat", ("cat",), 0, 2 / 3),
        ("", (), 1, 1),
        ("cat", (), 0, 0),
        ("", ("cat",), 0, 0),
        ("the", (), 1, 1),
        ("", ("the", "cat"), 0, 0),  # SQuAD v2 drops accepted texts without words where others have some
        ("mat\u00a0 \n cat", ("mat cat",), 1, 1),
    ],
)
def test_texts_by_hand(given, accepted, exact, f1):
    answers = of_texts((given, accepted))
    assert load_metric("exact_match").value(answers) == exact
    assert load_metric("answer_f1").value(answers) == pytest.approx(f1)


@given(rows=st.lists(st.lists(st.integers(0, 1), min_size=4, max_size=4), min_size=1, max_size=20))
def test_sets_of_labels_are_right_as_a_whole(rows):
    predictions, references = np.array(rows)[:, :2], np.array(rows)[:, 2:]
    expected = scikit.accuracy_score(references, predictions)
    assert load_metric("exact_match").value(Answers("label_sets", predictions, references)) == pytest.approx(expected)
