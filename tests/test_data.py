"""Data files and data sets of the Hub: what each kind gives, what is refused, and what a fingerprint stands for."""

import csv
import hashlib
import json
import os

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from finetune.data import READERS, fingerprint, load_files, load_hub, read_file
from finetune.errors import DataError

COLUMNS = ["sentence", "label"]
ROWS = [("a line\nbreak, “quoted”", 0), ("NA", 1), ("None", 1), ("2020-01-01", 0), ("", 1)]


def write(path, rows=ROWS):
    """Writes `rows` of COLUMNS as the kind of file that `path` ends in."""
    records = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    if path.suffix == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(records), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(records, indent=2), encoding="utf-8")
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writerows([COLUMNS, *rows])
    return path


def rows_of(rows, columns=COLUMNS):
    return list(zip(*(rows.values(column) for column in columns), strict=True))


@pytest.mark.parametrize("suffix", READERS)
def test_every_kind_of_file_gives_the_same_rows(tmp_path, suffix):
    assert rows_of(read_file(write(tmp_path / f"data{suffix}"))) == ROWS


@pytest.mark.parametrize("suffix", READERS)
def test_the_suffix_may_be_in_capitals(tmp_path, suffix):
    lower = write(tmp_path / f"data{suffix}")
    assert rows_of(read_file(lower.rename(tmp_path / f"data{suffix.upper()}"))) == ROWS


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".json", ".jsonl"])
def test_a_byte_order_mark_is_no_part_of_the_data(tmp_path, suffix):
    path = write(tmp_path / f"data{suffix}")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_file(path).columns == COLUMNS


@pytest.mark.parametrize("word", ["NA", "null", "2020-01-01", "12:30:00", "2020-01-01 12:30:00"])
@pytest.mark.parametrize("suffix", READERS)
def test_a_column_of_words_that_could_be_values_stays_text(tmp_path, suffix, word):
    rows = read_file(write(tmp_path / f"data{suffix}", [(word, 0), (word, 1)]))
    assert rows.values("sentence") == [word, word]


@pytest.mark.parametrize("name", ["data.json", "data.jsonl"])
def test_json_may_be_objects_in_lines(tmp_path, name):
    path = tmp_path / name
    path.write_text('{"sentence": "one\u2028line", "label": 0}\n\n{"sentence": "b",\n "label": 1}\n', encoding="utf-8")
    assert rows_of(read_file(path)) == [("one\u2028line", 0), ("b", 1)]


def test_what_a_json_row_lacks_is_null(tmp_path):
    path = tmp_path / "data.json"
    path.write_text('[{"sentence": "a"}, {"sentence": "b", "label": 1}]')
    assert rows_of(read_file(path)) == [("a", None), ("b", 1)]


def test_an_empty_number_in_a_csv_is_null(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("sentence,label\na,1\nb,\n")
    assert read_file(path).values("label") == [1, None]


def test_parquet_keeps_the_names_of_classes(tmp_path):
    from datasets import ClassLabel, Dataset, Features, Value

    label = ClassLabel(names=["bad", "good"])
    dataset = Dataset.from_dict(
        {"sentence": ["a"], "label": [1]}, features=Features({"sentence": Value("string"), "label": label})
    )
    parquet.write_table(dataset.with_format("arrow")[:], tmp_path / "data.parquet")
    assert read_file(tmp_path / "data.parquet").class_names == {"label": ("bad", "good")}


def named(path, names):
    """Writes a row of class 0 of `names`, as `datasets` writes it."""
    feature = {"names": names, "_type": "ClassLabel"}
    metadata = {"huggingface": json.dumps({"info": {"features": {"label": feature}}})}
    table = pyarrow.table({"sentence": ["a"], "label": [0]}).replace_schema_metadata(metadata)
    parquet.write_table(table, path)
    return path


def test_files_of_a_split_that_number_their_classes_differently_are_refused(tmp_path):
    paths = [named(tmp_path / "1.parquet", ["bad", "good"]), named(tmp_path / "2.parquet", ["good", "bad"])]
    with pytest.raises(DataError, match=r"differ in type: the classes of label are numbered in several ways$"):
        load_files({"train": paths})


def test_files_of_a_split_that_number_their_classes_alike_keep_the_names(tmp_path):
    paths = [named(tmp_path / f"{number}.parquet", ["bad", "good"]) for number in (1, 2)]
    rows = load_files({"train": paths})["train"]
    assert (rows.class_names, rows.values("label")) == ({"label": ("bad", "good")}, [0, 0])


def test_a_column_of_nulls_joins_one_of_texts(tmp_path):
    parts = [write(tmp_path / "1.jsonl", [("a", None)]), write(tmp_path / "2.jsonl", [("b", "good")])]
    assert load_files({"train": parts})["train"].values("label") == [None, "good"]


def test_rows_are_selected_by_their_positions(tmp_path):
    rows = read_file(write(tmp_path / "data.csv")).select(np.array([4, 1]))
    assert rows_of(rows) == [ROWS[4], ROWS[1]]


@pytest.mark.parametrize("kind", [pyarrow.dictionary(pyarrow.int8(), pyarrow.string()), pyarrow.large_string()])
def test_parquet_text_is_text_however_it_is_encoded(tmp_path, kind):
    parquet.write_table(pyarrow.table({"sentence": pyarrow.array(["a", "b", "a"]).cast(kind)}), tmp_path / "a.parquet")
    rows = read_file(tmp_path / "a.parquet")
    assert rows.kind("sentence") == "string"
    assert rows.values("sentence") == ["a", "b", "a"]


def test_a_csv_of_many_blocks_is_read_as_one(tmp_path):
    # Blocks are of 1 MiB. The label is a number in all but the last, and a quoted line break may lie on a boundary.
    rows = [("first line\nsecond line of the text", "7")] * 60_000 + [("a", "many")]
    dataset = read_file(write(tmp_path / "data.csv", rows))
    assert (tmp_path / "data.csv").stat().st_size > 2 * 2**20
    assert rows_of(dataset) == rows


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"absent\.csv: no such file"):
        read_file(tmp_path / "absent.csv")


def test_a_folder_is_no_file(tmp_path):
    folder = tmp_path / "data.csv"
    folder.mkdir()
    with pytest.raises(DataError, match=r"data\.csv: is a directory, not a file"):
        read_file(folder)


def test_an_unknown_kind_lists_the_known_ones(tmp_path):
    (tmp_path / "data.xlsx").touch()
    with pytest.raises(
        DataError, match=r"data\.xlsx: a data file must end in \.csv, \.tsv, \.json, \.jsonl, \.parquet"
    ):
        read_file(tmp_path / "data.xlsx")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("data.csv", b"sentence,label\na\n", "as csv: row 2, the header being row 1, has 1 cell, not 2: 'a'"),
        ("data.csv", b"", "as csv: it is empty"),
        ("data.csv", b"sentence,label\ncaf\xe9,1\n", "as csv: the byte 0xe9 in line 2 isn't UTF-8 text"),
        ("data.json", b'[{"sentence": "a"},', "as json: Expecting value: line 1 column 20"),
        ("data.json", b'[{"sentence": "a"}, 3]', "as json: row 2 is 3, not an object"),
        ("data.jsonl", b'{"sentence": "a"}\n{"sentence":\n', "as jsonl: Expecting value: line 3 column 1"),
        ("data.jsonl", b'{"sentence": "caf\xe9"}\n', "as jsonl: the byte 0xe9 in line 1 isn't UTF-8 text"),
        ("data.jsonl", b'{"label": "a"}\n{"label": 1}\n', 'as jsonl: the values of "label" are of several types'),
        ("data.parquet", b"PAR1", "as parquet: "),
    ],
)
def test_a_broken_file_is_named_with_the_reason(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_file(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}: can't be read {reason}")
    assert "\n" not in str(caught.value)


def test_repeated_column_names_are_refused(tmp_path):
    (tmp_path / "data.csv").write_text("label,sentence,label\n1,a,2\n")
    with pytest.raises(DataError, match=r"data\.csv: column names are repeated: label$"):
        read_file(tmp_path / "data.csv")


def test_the_files_of_a_split_follow_each_other(tmp_path):
    files = {"train": [write(tmp_path / "b.csv", ROWS[:2]), write(tmp_path / "a.parquet", ROWS[2:])]}
    assert rows_of(load_files(files)["train"]) == ROWS


def test_files_of_a_split_with_other_columns_are_refused(tmp_path):
    first = write(tmp_path / "first.csv")
    second = tmp_path / "second.csv"
    second.write_text("sentence,stars\na,1\n")
    with pytest.raises(DataError) as caught:
        load_files({"train": [first, second]})
    assert str(caught.value) == (
        f"{second}: its columns are sentence, stars; those of {first} are sentence, label: "
        "the files of one split (train) must agree"
    )


def test_files_of_a_split_may_order_their_columns_differently(tmp_path):
    second = tmp_path / "second.csv"
    second.write_text("label,sentence\n7,z\n")
    dataset = load_files({"train": [write(tmp_path / "first.csv"), second]})["train"]
    assert rows_of(dataset) == [*ROWS, ("z", 7)]


def test_files_of_a_split_with_other_types_are_refused(tmp_path):
    paths = [write(tmp_path / "first.csv"), write(tmp_path / "second.csv", [("a", "good")])]
    with pytest.raises(DataError, match=r"first\.csv, .*second\.csv: the files of the train split differ in type"):
        load_files({"train": paths})


def test_equal_rows_have_equal_fingerprints_in_every_kind_of_file(tmp_path):
    prints = {fingerprint(read_file(write(tmp_path / f"data{suffix}")), COLUMNS) for suffix in READERS}
    assert len(prints) == 1


def test_a_fingerprint_is_the_hash_of_the_columns_by_the_thousand_rows(tmp_path):
    rows = read_file(write(tmp_path / "data.jsonl", MANY))
    parts = [MANY[:1000], MANY[1000:2000], MANY[2000:]]
    text = "".join(json.dumps([[text for text, _ in part], [label for _, label in part]]) for part in parts)
    assert fingerprint(rows, COLUMNS) == hashlib.sha256(text.encode()).hexdigest()


MANY = [(f"sentence {row}", row % 2) for row in range(2500)]


@pytest.mark.parametrize(
    "changed",
    [
        [*MANY[:-1], ("sentence 2499", 0)],
        [("other", 0), *MANY[1:]],
        [MANY[1], MANY[0], *MANY[2:]],
        MANY[:-1],
        [*MANY, MANY[0]],
    ],
    ids=["last label", "first sentence", "order", "fewer", "more"],
)
def test_any_change_changes_the_fingerprint(tmp_path, changed):
    first = read_file(write(tmp_path / "first.parquet", MANY))
    second = read_file(write(tmp_path / "second.parquet", changed))
    assert fingerprint(first, COLUMNS) != fingerprint(second, COLUMNS)


def test_the_fingerprint_is_of_the_named_columns_alone(tmp_path):
    (tmp_path / "data.csv").write_text("idx,sentence,label\n1,a,0\n")
    (tmp_path / "more.csv").write_text("idx,sentence,label\n2,a,0\n")
    first, second = (read_file(tmp_path / name) for name in ("data.csv", "more.csv"))
    assert fingerprint(first, COLUMNS) == fingerprint(second, COLUMNS)


def test_text_moved_between_columns_changes_the_fingerprint(tmp_path):
    (tmp_path / "data.csv").write_text("a,b\nxy,z\n")
    (tmp_path / "more.csv").write_text("a,b\nx,yz\n")
    first, second = (read_file(tmp_path / name) for name in ("data.csv", "more.csv"))
    assert fingerprint(first, ["a", "b"]) != fingerprint(second, ["a", "b"])


def test_a_data_set_in_the_cache_needs_no_connection(run_offline, sentences):
    printed = run_offline(
        "import json\n"
        "from finetune.data import load_hub\n"
        "splits = {'train': 'train', 'validation': 'validation', 'test': 'test'}\n"
        "loaded = load_hub('nyu-mll/glue', configuration='sst2', revision=None, splits=splits)\n"
        "print(json.dumps({ours: [rows.values('sentence')[0], rows.values('label')] for ours, rows in loaded.items()}))"
    )
    expected = {"train": sentences(200, seed=1), "validation": sentences(60, seed=2)}
    loaded = json.loads(printed.splitlines()[-1])
    assert loaded.pop("test") == [sentences(60, seed=3)[0]["sentence"], [-1] * 60]
    assert loaded == {split: [rows[0]["sentence"], [row["label"] for row in rows]] for split, rows in expected.items()}


def test_a_split_that_the_data_set_lacks_lists_its_splits(run_offline):
    printed = run_offline(
        "from finetune.data import load_hub\n"
        "from finetune.errors import DataError\n"
        "try: load_hub('nyu-mll/glue', configuration='sst2', revision=None, splits={'validation': 'valid'})\n"
        "except DataError as error: print(error)"
    )
    assert printed.splitlines()[-1] == (
        'nyu-mll/glue: there is no split "valid" (data.splits.validation); there are train, validation, test'
        " (did you mean validation?)"
    )


def test_a_data_set_out_of_reach_says_why(tmp_path, monkeypatch):
    import datasets

    assert os.environ["HF_HUB_OFFLINE"] == "1"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    with pytest.raises(DataError, match=r"^nobody/nothing: not in the local cache, and HF_HUB_OFFLINE=1 keeps"):
        load_hub("nobody/nothing", configuration=None, revision=None, splits={"train": "train"})
