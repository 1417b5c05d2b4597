"""Data files damaged at random places or cut short: what comes of each is rows or one message, never a crash."""

import csv
import io
import json

import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from finetune.data import READERS, load_files, read_file
from finetune.errors import DataError
from finetune.tasks import TextClassification

TEXTS = ["a “quoted” film", "NA", 'two\nlines, "both" read', "", "12", "späť 😀"]
ROWS = [{"text": text, "label": ("x", "y")[number % 2]} for number, text in enumerate(TEXTS)]


def delimited(delimiter):
    file = io.StringIO()
    writer = csv.DictWriter(file, ["text", "label"], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return file.getvalue().encode()


def packed():
    file = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), file)
    return file.getvalue()


WHOLE = {
    ".csv": delimited(","),
    ".tsv": delimited("\t"),
    ".json": json.dumps(ROWS, ensure_ascii=False).encode(),
    ".jsonl": "".join(json.dumps(row) + "\n" for row in ROWS).encode(),
    ".parquet": packed(),
}
assert WHOLE.keys() == READERS.keys()

SIGNS = [sign.encode() for sign in '" , { } [ ] : \\ \0 \r \n \t - 1e999 NaN null \\ud800 \ufeff'.split(" ")]
INSERTED = st.one_of(st.sampled_from(SIGNS), st.binary(max_size=8))
FAULTS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 20), INSERTED), min_size=1, max_size=4)


def damaged(content, faults):
    """Returns `content` with bytes replaced: each fault is a place as a fraction, how many go, and which come."""
    for place, removed, inserted in faults:
        start = int(place * len(content))
        content = content[:start] + inserted + content[start + removed :]
    return content


def outcome(path):
    """Returns the classes and the examples of the file, or the message it is refused with."""
    try:
        return TextClassification().read(load_files({"train": [path]}))
    except DataError as error:
        return str(error).replace(str(path), path.name)


@pytest.mark.parametrize("suffix", READERS)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(faults=FAULTS)
def test_a_damaged_file_gives_rows_or_one_message(tmp_path, suffix, faults):
    path = tmp_path / f"data{suffix}"
    path.write_bytes(damaged(WHOLE[suffix], faults))
    found = outcome(path)
    if isinstance(found, str):
        assert len(found.splitlines()) == 1
        assert len(found) < 1000
    else:
        classes, examples = found
        assert {type(text) for text in examples["train"].texts} == {str}
        assert set(examples["train"].labels) == set(range(len(classes)))


@pytest.mark.parametrize("suffix", [".json", ".parquet"])
def test_a_file_cut_short_anywhere_is_refused(tmp_path, suffix):
    path, whole = tmp_path / f"data{suffix}", WHOLE[suffix]
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError):
            read_file(path)


def test_jsonl_cut_short_is_refused_unless_a_row_ends_there(tmp_path):
    path, whole = tmp_path / "data.jsonl", WHOLE[".jsonl"]
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        if whole[:size].endswith((b"}", b"}\n")):
            assert read_file(path).values("text") == TEXTS[: whole[:size].count(b"}")]
        else:
            with pytest.raises(DataError):
                read_file(path)
