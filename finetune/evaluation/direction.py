"""Whether more of a metric is better or less, with all that follows for ranks and words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Direction:
    """The direction in which a metric gets better: up, as an accuracy does, or down, as an error does."""

    greater_is_better: bool = True

    def merit(self, score: float) -> float:
        """Returns a number that is the greater the better the score is."""
        return score if self.greater_is_better else -score

    def best(self, scores: Iterable[float]) -> float:
        """Returns the best of `scores`; raises ValueError for none."""
        return max(scores, key=self.merit)

    def reaches(self, score: float, bar: float) -> bool:
        """Whether `score` is as good as `bar`, or better."""
        return self.merit(score) >= self.merit(bar)

    def near(self, best: float, share: float) -> float:
        """Returns what is worse than `best` by what `share` lacks of 1, as a part of its size.

        Of 0.95 that is 95% of a positive score of which more is better, and 105% of one of which less is.
        """
        return best * (share if self.greater_is_better == (best >= 0) else 2 - share)

    @property
    def better(self) -> Literal["more", "less"]:
        """Which is better."""
        return "more" if self.greater_is_better else "less"

    @property
    def superlative(self) -> str:
        """What the best score is of all."""
        return "highest" if self.greater_is_better else "lowest"

    @property
    def flattering(self) -> str:
        """What a score is that looks better than the truth."""
        return "too high" if self.greater_is_better else "too low"

    @property
    def spread(self) -> str:
        """What the distance of the best score and the worst is, which is never negative."""
        return "best less worst" if self.greater_is_better else "worst less best"


MORE_IS_BETTER = Direction()
