"""Large files: their rows are on disk, and the same to the last byte as if they were in memory."""

import csv
import json
import os

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from finetune import data
from finetune.data import READERS, Rows, fingerprint, load_files, read_file
from finetune.data import files as reading
from finetune.errors import DataError
from finetune.tasks import TextClassification
from finetune.training.cache import Cache

COLUMNS = ("text", "label")
COUNT = 2 * reading.PART_ROWS + 500
TASK = TextClassification()


@pytest.fixture
def keep(tmp_path):
    return Cache(tmp_path / "cache").keep


@pytest.fixture(autouse=True)
def all_are_large(monkeypatch):
    monkeypatch.setattr(data, "LARGE", 0)


def write(path, count=COUNT):
    """Writes `count` rows of COLUMNS as the kind of file that `path` ends in."""
    rows = [{"text": f"the film {row}", "label": ("bad", "good")[row % 2]} for row in range(count)]
    if path.suffix == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


@pytest.mark.parametrize("suffix", READERS)
def test_rows_on_disk_are_those_in_memory(tmp_path, keep, suffix):
    path = write(tmp_path / f"train{suffix}")
    on_disk, in_memory = load_files({"train": [path]}, keep=keep)["train"], read_file(path)
    assert on_disk.table.equals(in_memory.table)
    assert fingerprint(on_disk, COLUMNS) == fingerprint(in_memory, COLUMNS)


def test_rows_on_disk_take_no_memory(tmp_path, keep):
    files = {"train": [write(tmp_path / "train.parquet")]}
    load_files(files, keep=keep)
    before = pyarrow.total_allocated_bytes()
    rows = load_files(files, keep=keep)["train"]
    assert rows.table.nbytes > 300_000
    assert pyarrow.total_allocated_bytes() - before < 10_000


@pytest.mark.parametrize("suffix", READERS)
def test_a_file_is_read_once(tmp_path, keep, monkeypatch, suffix):
    files = {"train": [write(tmp_path / f"train{suffix}", 10)]}
    first = load_files(files, keep=keep)["train"]
    monkeypatch.setitem(READERS, suffix, lambda path: pytest.fail("it is read again"))
    monkeypatch.setattr(reading, "_parquet_parts", READERS[suffix])
    assert load_files(files, keep=keep)["train"].table.equals(first.table)


def test_a_file_that_has_changed_is_read_again(tmp_path, keep):
    path = write(tmp_path / "train.csv", 10)
    load_files({"train": [path]}, keep=keep)
    state = path.stat()
    path.write_text(path.read_text().replace("film 7", "book 7"))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert load_files({"train": [path]}, keep=keep)["train"].column("text")[7] == "the book 7"


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, keep, monkeypatch):
    path = write(tmp_path / "train.csv", 10)
    original = READERS[".csv"]

    def read(path):
        table = original(path)
        write(path, 11)
        return table

    monkeypatch.setitem(READERS, ".csv", read)
    with pytest.raises(DataError, match=r"train\.csv: can't be read as csv: it changed while it was read$"):
        load_files({"train": [path]}, keep=keep)


def test_where_nothing_can_be_kept_rows_are_in_memory(tmp_path):
    path = write(tmp_path / "train.parquet", 10)
    (tmp_path / "file").touch()
    cache = Cache(tmp_path / "file")
    assert len(load_files({"train": [path]}, keep=cache.keep)["train"]) == 10
    assert cache.fault


def test_files_of_a_split_are_large_together(tmp_path, monkeypatch):
    paths = [write(tmp_path / f"{number}.csv", 10) for number in (1, 2)]
    kept = []

    def keep(kind, key, **settings):
        kept.append(kind)

    size = paths[0].stat().st_size
    for large, count in [(2 * size, 2), (2 * size + 1, 0)]:
        monkeypatch.setattr(data, "LARGE", large)
        kept.clear()
        load_files({"train": paths}, keep=keep)
        assert len(kept) == count


def outcome(path, keep):
    with pytest.raises(DataError) as caught:
        load_files({"train": [path]}, keep=keep)
    return str(caught.value)


def damaged(path):
    content = write(path, 100).read_bytes()
    path.write_bytes(content[:20] + b"\xff" * 20 + content[40:])


def no_utf8(path):
    ends = pyarrow.array([0, 1, 2], pyarrow.int32()).buffers()[1]
    texts = pyarrow.Array.from_buffers(pyarrow.string(), 2, [None, ends, pyarrow.py_buffer(b"\xffb")])
    parquet.write_table(pyarrow.table({"text": texts, "label": ["x", "y"]}), path)


BROKEN = {
    "a damaged page": damaged,
    "no UTF-8": no_utf8,
    "cut short": lambda path: path.write_bytes(write(path).read_bytes()[:-20]),
    "another kind": lambda path: path.write_text("text,label\n"),
    "no rows": lambda path: parquet.write_table(pyarrow.table({"text": [], "label": []}), path),
    "repeated columns": lambda path: parquet.write_table(pyarrow.table([["a"], ["b"]], names=["a", "a"]), path),
}


@pytest.mark.parametrize("spoil", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_has_the_message_of_a_small_one(tmp_path, keep, spoil):
    path = tmp_path / "train.parquet"
    spoil(path)
    assert outcome(path, keep) == outcome(path, None)


def test_names_of_classes_and_plain_types_are_kept(tmp_path, keep):
    feature = {"names": ["bad", "good"], "_type": "ClassLabel"}
    metadata = {"huggingface": json.dumps({"info": {"features": {"label": feature}}})}
    texts = pyarrow.array(["a", "b"] * COUNT).cast(pyarrow.dictionary(pyarrow.int8(), pyarrow.string()))
    table = pyarrow.table({"text": texts, "label": [0, 1] * COUNT}).replace_schema_metadata(metadata)
    parquet.write_table(table, tmp_path / "train.parquet")
    rows = load_files({"train": [tmp_path / "train.parquet"]}, keep=keep)["train"]
    assert rows.class_names == {"label": ("bad", "good")}
    assert rows.kind("text") == "string"
    assert rows.values("text") == ["a", "b"] * COUNT


def test_a_text_is_made_when_it_is_asked_for():
    chunks = pyarrow.chunked_array([["a", "b"], [], ["c"] * 2500])
    column = Rows.of_table(pyarrow.table({"text": chunks})).column("text")
    assert (len(column), column[1], column[2], column[1:4]) == (2502, "b", "c", ["b", "c", "c"])
    assert list(column) == ["a", "b"] + ["c"] * 2500


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        (
            ["a"] * 4999 + [None],
            ["x", "y"] * 2500,
            'column "text" of the train split is empty in row 5,000',
        ),
        (
            ["a"] * 5000,
            ["x", "y"] * 2499 + ["", None],
            'column "label" of the train split is empty in 2 rows, the first of them row 4,999',
        ),
    ],
)
def test_rows_are_numbered_through_all_parts(texts, labels, message):
    whole = pyarrow.table({"text": pyarrow.array(texts, pyarrow.string()), "label": labels})
    parts = pyarrow.concat_tables([whole.slice(start, 7) for start in range(0, 5000, 7)])
    with pytest.raises(DataError) as caught:
        TASK.read({"train": Rows.of_table(parts)})
    assert str(caught.value).startswith(f"{message}: fill or remove")


def test_classes_are_numbered_alike_through_all_parts():
    labels = np.random.default_rng(0).integers(0, 5, size=5000)
    whole = pyarrow.table({"text": ["a"] * 5000, "label": [f"class {label}" for label in labels]})
    parts = pyarrow.concat_tables([whole.slice(start, 7) for start in range(0, 5000, 7)])
    classes, examples = TASK.read({"train": Rows.of_table(parts)})
    assert classes == tuple(f"class {label}" for label in range(5))
    assert np.array_equal(examples["train"].labels, labels)
