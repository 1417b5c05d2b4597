"""What a model answered: rows of it, and lengths that must agree."""

import numpy as np
import pytest

from finetune.metrics.answers import Answers


def test_rows_may_be_taken_more_than_once_and_keep_together():
    answers = Answers("classes", np.array([0, 1, 2]), np.array([0, 1, 1]), np.eye(3), ("a", "b", "c"))
    taken = answers.take([2, 0, 2])
    assert taken.predictions.tolist() == [2, 0, 2]
    assert taken.references.tolist() == [1, 0, 1]
    assert taken.scores.tolist() == np.eye(3)[[2, 0, 2]].tolist()
    assert (taken.form, taken.names, len(taken)) == ("classes", ("a", "b", "c"), 3)


def test_rows_of_texts_are_taken_as_those_of_arrays():
    taken = Answers("texts", ["x", "y"], [("x",), ()]).take(np.array([1, 1, 0]))
    assert (taken.predictions, taken.references, taken.scores) == (["y", "y", "x"], [(), (), ("x",)], None)


@pytest.mark.parametrize(("predictions", "scores"), [([0, 1], None), ([0, 1, 2], [[1.0]])])
def test_lengths_that_differ_are_refused(predictions, scores):
    with pytest.raises(ValueError, match="of 3 examples"):
        Answers("classes", predictions, [0, 1, 2], scores)


def test_sequences_of_tags_of_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match="1 tags predicted of 2 tokens of example 1"):
        Answers("tags", [["O"], ["O"]], [["O"], ["O", "O"]])
