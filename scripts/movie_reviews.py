"""Hutto and Gilbert's (2014) movie-review sentences as a data set and as questions with four choices. Opens no file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from asset_packages import AssetError
from rated_sentences import cells_of, key_of

VALIDATION, TEST = 1000, 1500
CHOICES, APART, ROUNDS = 4, 0.5, 10
QUESTION = "Which sentence is the most positive?"


@dataclass(frozen=True)
class Review:
    """One rated sentence; `key` is the sentence without differences of case and spacing."""

    id: int
    sentence: str
    rating: float

    @property
    def key(self) -> str:
        return key_of(self.sentence)

    @property
    def label(self) -> str:
        return "positive" if self.rating > 0 else "negative"


def parse(content: bytes) -> list[Review]:
    """Returns the sentences in a file of lines: id, rating and sentence."""
    return [Review(int(number), sentence.strip(), float(rating)) for number, rating, sentence in cells_of(content)]


def distinct(reviews: Sequence[Review]) -> list[Review]:
    """Returns the first of each sentence; raises AssetError where a sentence is rated both ways."""
    first: dict[str, Review] = {}
    for review in reviews:
        known = first.setdefault(review.key, review)
        if known.rating * review.rating < 0:
            raise AssetError(
                f"sentences {known.id} and {review.id} are one, and are rated {known.rating} and {review.rating}"
            )
    return list(first.values())


def rated(reviews: Sequence[Review]) -> list[Review]:
    """Returns the reviews that aren't neutral."""
    return [review for review in reviews if review.rating != 0]


def split(reviews: Sequence[Review]) -> dict[str, list[Review]]:
    """Returns train, validation and test, by the hash of the sentence: the same wherever and whenever it is done."""
    ordered = sorted(reviews, key=lambda review: hashlib.sha256(review.key.encode()).hexdigest())
    validation, test = ordered[:VALIDATION], ordered[VALIDATION : VALIDATION + TEST]
    return {"train": ordered[VALIDATION + TEST :], "validation": validation, "test": test}


def in_fours(reviews: Sequence[Review]) -> list[tuple[Review, ...]]:
    """Returns questions: fours of which one is rated clearly above the others, each sentence in one at most."""
    questions, left = [], list(reviews)
    for number in range(ROUNDS):
        left.sort(key=lambda review: hashlib.sha256(f"{number} {review.key}".encode()).hexdigest())
        fours = [tuple(left[start : start + CHOICES]) for start in range(0, len(left) - CHOICES + 1, CHOICES)]
        kept = [four for four in fours if are_apart(four)]
        questions += kept
        used = {review.id for four in kept for review in four}
        left = [review for review in left if review.id not in used]
    return questions


def are_apart(four: Sequence[Review]) -> bool:
    *_, second, highest = sorted(review.rating for review in four)
    return round(highest - second, 9) >= APART


def question_of(four: Sequence[Review]) -> dict[str, object]:
    """Returns the row of a question: as choices, and as a question about a text."""
    sentences = [review.sentence for review in four]
    label = max(range(CHOICES), key=lambda place: four[place].rating)
    start = sum(len(sentence) + 1 for sentence in sentences[:label])
    return {
        "choices": sentences,
        "label": label,
        "ratings": [review.rating for review in four],
        "question": QUESTION,
        "context": " ".join(sentences),
        "answers": {"text": [sentences[label]], "answer_start": [start]},
    }
