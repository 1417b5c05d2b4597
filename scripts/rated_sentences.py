"""Hutto and Gilbert's (2014) rated sentences as data sets, the same wherever they are made. Opens no file.

A data set is split ▶ column ▶ values. Sentences of one document (an editorial, the reviews of a product) are in one
split, and no sentence is in two.
"""

from __future__ import annotations

import hashlib
import html
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SOURCES = {
    "movie": "movieReviewSnippets",
    "product": "amazonReviewSnippets",
    "tweet": "tweets",
    "editorial": "nytEditorialSnippets",
}
"""What the sentences are of ▶ what their file's name begins with."""
SHARES = {"validation": 0.1, "test": 0.25}
"""Split ▶ the share of documents that are in it or in one before it; the rest are in train."""
NEGATIONS = {"not", "no", "never", "nor", "neither", "cannot", "without", "nothing", "none", "hardly"}
REACH = 3
"""How many words before a telling one a negation may stand, and turn it."""
WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*|[^\w\s]|_")

DataSet = dict[str, dict[str, list[Any]]]


@dataclass(frozen=True)
class Sentence:
    """A sentence, its mean human rating from −4 to 4, and the document and the source it is of."""

    id: str
    text: str
    rating: float
    source: str

    @property
    def key(self) -> str:
        """The sentence without differences of case and spacing."""
        return key_of(self.text)

    @property
    def document(self) -> str:
        """What all sentences of a document have alike, and no other; of tweets and movie reviews, the sentence."""
        number, _, part = self.id.partition("_")
        return f"{self.source} {number}" if part else self.key

    @property
    def split(self) -> str:
        """The split, by the hash of the document."""
        place = int.from_bytes(hashlib.sha256(self.document.encode()).digest()[:8]) / 2**64
        return next((split for split, share in SHARES.items() if place < share), "train")


def key_of(sentence: str) -> str:
    """Returns a sentence without differences of case and spacing."""
    return " ".join(unicodedata.normalize("NFKC", sentence).split()).casefold()


def cells_of(content: bytes) -> list[list[str]]:
    """Returns the cells of each line of a file, which have tabs between them."""
    return [line.rstrip("\r").split("\t") for line in content.decode("utf-8").split("\n") if line.strip()]


def parse(content: bytes, source: str) -> list[Sentence]:
    """Returns the sentences in a file of lines: id, rating and sentence."""
    cells = cells_of(content)
    return [Sentence(number, html.unescape(text).strip(), float(rating), source) for number, rating, text in cells]


def distinct(sentences: Iterable[Sentence]) -> list[Sentence]:
    """Returns the sentences that occur once; those that occur several times have several ratings."""
    by_key: dict[str, list[Sentence]] = {}
    for sentence in sentences:
        by_key.setdefault(sentence.key, []).append(sentence)
    return [found[0] for found in by_key.values() if len(found) == 1]


def ratings(sentences: Sequence[Sentence]) -> DataSet:
    """Returns the sentences with their ratings."""
    return _split(sentences, lambda each: {"id": each.id, "sentence": each.text, "rating": each.rating})


def sources(sentences: Sequence[Sentence]) -> DataSet:
    """Returns the sentences with what they are of and, where their rating is above 0, the label "positive" too."""

    def row(each: Sentence) -> dict[str, Any]:
        labels = [each.source, "positive"] if each.rating > 0 else [each.source]
        return {"id": f"{each.source} {each.id}", "sentence": each.text, "labels": labels}

    return _split(sentences, row)


def spans(sentences: Sequence[Sentence], lexicon: bytes) -> DataSet:
    """Returns the words of the sentences with the tags that `tags` gives them by the lexicon's valences."""
    valences = read_lexicon(lexicon)

    def row(each: Sentence) -> dict[str, Any]:
        words = WORD.findall(each.text)
        return {"id": each.id, "tokens": words, "tags": tags(words, valences)}

    return _split([each for each in sentences if WORD.search(each.text)], row)


def read_lexicon(content: bytes) -> dict[str, float]:
    """Returns word ▶ valence, of lines: word, mean rating, standard deviation, ratings."""
    lines = [line.split("\t") for line in content.decode("utf-8").split("\n") if line.strip()]
    return {word: float(mean) for word, mean, *_ in lines}


def tags(words: Sequence[str], valences: Mapping[str, float]) -> list[str]:
    """Returns a tag for each word: O, or B- or I- and POS or NEG, of spans of telling words.

    A word is telling where its small letters are in the lexicon, by the sign of its valence. Telling words of one sign
    that follow on each other are one span. A negation within the three words before a span, and after the span before
    it, turns its sign and is, with what is in between, a part of it.
    """
    signs = [_sign(valences.get(word.lower(), 0.0)) for word in words]
    found, end = ["O"] * len(words), 0
    for first in range(len(words)):
        if first < end or not signs[first]:
            continue
        after = next((place for place in range(first, len(words)) if signs[place] != signs[first]), len(words))
        near = range(max(end, first - REACH), first)
        negation = next((place for place in reversed(near) if _negates(words[place])), None)
        sign, start = (signs[first], first) if negation is None else (-signs[first], negation)
        kind = "POS" if sign > 0 else "NEG"
        found[start:after] = [f"B-{kind}", *[f"I-{kind}"] * (after - start - 1)]
        end = after
    return found


def _sign(valence: float) -> int:
    return (valence > 0) - (valence < 0)


def _negates(word: str) -> bool:
    return word.lower() in NEGATIONS or word.lower().replace("’", "'").endswith("n't")


def _split(sentences: Sequence[Sentence], row: Any) -> DataSet:
    found: DataSet = {}
    for split in ("train", *SHARES):
        rows = [row(each) for each in sentences if each.split == split]
        found[split] = {column: [each[column] for each in rows] for column in (rows[0] if rows else ())}
    return found
