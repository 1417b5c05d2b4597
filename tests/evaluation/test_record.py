"""The record: whole or not at all, read back as it was, refused where it isn't one."""

import json

import pytest

from finetune.errors import RecordError
from finetune.evaluation.record import (
    HISTORY,
    RECORD,
    find_runs,
    read_history,
    read_record,
    write_atomically,
    write_record,
)


def test_a_record_reads_back_equal(tmp_path, make_record):
    record = make_record()
    write_record(tmp_path, record)
    assert read_record(tmp_path) == record


def test_a_record_is_plain_json(tmp_path, make_record):
    write_record(tmp_path, make_record(accuracy=0.875))
    plain = json.loads((tmp_path / RECORD).read_text())
    assert plain["format"] == 1
    assert plain["results"]["splits"]["test"]["metrics"]["accuracy"] == {"value": 0.875, "standard_error": 0.01}


def test_a_rung_reads_back_and_is_left_out_where_there_is_none(tmp_path, make_record):
    write_record(tmp_path, make_record(study={"rung": {"number": 1, "of": 2, "peaks": [1e-5, 1e-4]}}))
    assert read_record(tmp_path).study.rung.peaks == [1e-5, 1e-4]
    write_record(tmp_path, make_record(study={}))
    assert "rung" not in json.loads((tmp_path / RECORD).read_text())["study"]
    assert read_record(tmp_path).study.rung is None


def test_a_missing_record_is_named(tmp_path):
    with pytest.raises(RecordError, match=r"record.json: no such file"):
        read_record(tmp_path)


@pytest.mark.parametrize(
    ("change", "place"),
    [({"format": 0}, "format"), ({"surprise": 1}, "surprise"), ({"timing": {}}, "timing"), (None, "the file")],
)
def test_what_is_not_a_record_of_this_format_is_refused(tmp_path, make_record, change, place):
    plain = json.loads(make_record().model_dump_json())
    text = "{" if change is None else json.dumps(plain | change)
    (tmp_path / RECORD).write_text(text)
    with pytest.raises(RecordError, match=f"not a record of format 1 \\({place}"):
        read_record(tmp_path)


def test_a_record_of_a_newer_format_asks_for_a_newer_version(tmp_path, make_record):
    plain = json.loads(make_record().model_dump_json())
    (tmp_path / RECORD).write_text(json.dumps(plain | {"format": 2}))
    with pytest.raises(RecordError, match=r"a record of format 2, and this version reads format 1; .* so upgrade"):
        read_record(tmp_path)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fail(temporary):
        temporary.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(RecordError, match="can't be written: No space left on device"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_history_line_cut_short_is_left_out(tmp_path):
    (tmp_path / HISTORY).write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert read_history(tmp_path) == [{"step": 1}, {"step": 2}]


def test_runs_are_found_once_each_in_order(tmp_path, make_record):
    for name in ("b", "a"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        write_record(tmp_path / "runs" / name, make_record())
    runs = tmp_path / "runs"
    assert list(find_runs([runs / "b", runs])) == [runs / "b", runs / "a"]


@pytest.mark.parametrize(("make", "problem"), [(False, "no such directory"), (True, "holds no record.json")])
def test_a_place_without_runs_is_refused(tmp_path, make, problem):
    if make:
        (tmp_path / "empty").mkdir()
    with pytest.raises(RecordError, match=problem):
        list(find_runs([tmp_path / "empty"]))
