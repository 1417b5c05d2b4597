"""One table in three: equal texts together, classes even, and the same whatever the order of the rows."""

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from finetune.data import Rows
from finetune.errors import DataError
from finetune.proposing.splitting import SHARES, split_rows


def table(texts, labels):
    return Rows.of_dataset(Dataset.from_dict({"text": texts, "label": labels}))


def split(rows, **options):
    return split_rows(rows, ["text"], **{"label": "label", "shares": SHARES, **options})


@given(st.lists(st.tuples(st.integers(0, 80), st.sampled_from("ab")), min_size=40, max_size=200))
def test_every_row_is_in_one_split_and_equal_texts_in_the_same(pairs):
    texts = [str(number) for number in range(30)] + [str(number) for number, _ in pairs]
    labels = ["a"] * 30 + [label for _, label in pairs]
    made = split(table(texts, labels))
    found = [(text, name) for name, rows in made.items() for text in rows.values("text")]
    assert sorted(text for text, _ in found) == sorted(texts)
    assert len({*found}) == len({text for text, _ in found})


def test_each_class_has_its_share_of_each_split():
    made = split(table([f"text {number}" for number in range(1000)], ["rare"] * 100 + ["common"] * 900))
    counts = {
        name: (rows.values("label").count("rare"), rows.values("label").count("common")) for name, rows in made.items()
    }
    assert counts == {"train": (80, 720), "validation": (10, 90), "test": (10, 90)}


def test_the_order_of_the_rows_changes_nothing():
    texts, labels = [f"text {number}" for number in range(100)], ["a", "b"] * 50
    order = np.random.default_rng(0).permutation(100)
    one, other = (
        split(table(texts, labels)),
        split(table([texts[each] for each in order], [labels[each] for each in order])),
    )
    for name, rows in one.items():
        assert sorted(rows.values("text")) == sorted(other[name].values("text"))


def test_too_few_examples_are_refused():
    with pytest.raises(DataError, match="29 different examples are too few to be split: 30 are the least"):
        split(table([f"text {number % 29}" for number in range(100)], ["a"] * 100))
