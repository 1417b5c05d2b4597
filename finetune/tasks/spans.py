"""The best spans of tokens by the scores of where they start and end, over all windows of each question."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

WINDOWS_AT_ONCE = 1000


@dataclass(frozen=True)
class Ends:
    """The likeliest starts and ends of answers in w windows: scores and tokens, each of shape (w, k).

    Where there are fewer than k, the rest score −∞. `none`: shape (w,), the score of a window that holds no answer.
    """

    start_scores: Array
    starts: Array
    end_scores: Array
    ends: Array
    none: Array


@dataclass(frozen=True)
class BestSpans:
    """The best span of each of n questions, shape (n,): the window it is in, -1 where there is none, its first and last
    token, its score, and its probability. `none`: the score of no answer."""

    windows: Array
    first: Array
    last: Array
    scores: Array
    probabilities: Array
    none: Array


def best_spans(ends: Ends, questions: Array, *, count: int, longest: int, n_best: int, may_be_none: bool) -> BestSpans:
    """Returns the spans of at most `longest` tokens with the greatest sum of a start's and an end's score.

    `questions`: shape (w,), which of the `count` questions each window is of. A probability is the softmax over the
    `n_best` spans of a question in all its windows and, where it `may_be_none`, no answer, whose score is the least of
    those windows, as in Devlin et al. 2019 (arXiv 1810.04805).
    """
    none = np.full(count, np.inf)
    np.minimum.at(none, questions, ends.none.astype(np.float64))
    candidates = [np.concatenate(each) for each in zip(*_candidates(ends, longest, n_best), strict=True)]
    of_question = questions[candidates[0]]
    order = np.lexsort((-candidates[3], of_question))
    of_question = of_question[order]
    begins = np.searchsorted(of_question, np.arange(count))
    is_kept = np.arange(len(order)) - begins[of_question] < n_best
    windows, first, last, scores = (column[order[is_kept]] for column in candidates)
    of_question = of_question[is_kept]

    found, at = np.unique(of_question, return_index=True)
    best = np.full(count, -np.inf)
    best[found] = scores[at]
    highest = np.maximum(best, none) if may_be_none else best
    total = np.exp(none - highest) if may_be_none else np.zeros(count)
    np.add.at(total, of_question, np.exp(scores - highest[of_question]))
    chosen = {name: np.full(count, -1) for name in ("windows", "first", "last")}
    for name, column in (("windows", windows), ("first", first), ("last", last)):
        chosen[name][found] = column[at]
    probabilities = np.zeros(count)
    probabilities[found] = np.exp(best[found] - highest[found]) / total[found]
    return BestSpans(**chosen, scores=best, probabilities=probabilities, none=none)


def _candidates(ends: Ends, longest: int, n_best: int) -> Iterator[tuple[Array, ...]]:
    """Yields the window, the first and the last token and the score of the `n_best` spans of some windows."""
    count, width = ends.starts.shape
    kept = min(n_best, width * width)
    for begin in range(0, count, WINDOWS_AT_ONCE):
        some = slice(begin, begin + WINDOWS_AT_ONCE)
        scores = ends.start_scores[some, :, None].astype(np.float64) + ends.end_scores[some, None, :]
        tokens = ends.ends[some, None, :] - ends.starts[some, :, None] + 1
        scores = np.where((tokens >= 1) & (tokens <= longest), scores, -np.inf).reshape(len(scores), -1)
        places = np.argpartition(-scores, kept - 1, axis=1)[:, :kept]
        of_places = np.take_along_axis(scores, places, axis=1)
        first = np.take_along_axis(ends.starts[some], places // width, axis=1)
        last = np.take_along_axis(ends.ends[some], places % width, axis=1)
        windows = np.broadcast_to(np.arange(begin, begin + len(scores))[:, None], places.shape)
        is_span = np.isfinite(of_places)
        yield windows[is_span], first[is_span], last[is_span], of_places[is_span]
