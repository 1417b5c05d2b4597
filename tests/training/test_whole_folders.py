"""In what order a folder is flushed, and what becomes of it where it can't be."""

import os
from pathlib import Path

import pytest

from finetune.errors import RecordError
from finetune.training import whole_folders
from finetune.training.whole_folders import MANIFEST, fault_of, write_whole


def write_two(aside):
    (aside / "a").write_bytes(bytes(1000))
    (aside / "part").mkdir()
    (aside / "part" / "b").write_bytes(bytes(range(10)))


@pytest.fixture
def flushed(tmp_path, monkeypatch):
    """The names of what is flushed, in order, each with whether a manifest and the folder were there by then."""
    seen, flush = [], whole_folders.flush

    def watch(path):
        flush(path)
        has_manifest = any(tmp_path.rglob(MANIFEST))
        seen.append((path.name, has_manifest, (tmp_path / "folder").exists()))

    monkeypatch.setattr(whole_folders, "flush", watch)
    return seen


def test_files_reach_the_disk_before_the_manifest_and_it_before_the_name(tmp_path, flushed):
    write_whole(tmp_path / "folder", write_two)
    assert sorted(flushed[:2]) == [("a", False, False), ("b", False, False)]
    assert flushed[2:] == [
        (MANIFEST, True, False),
        (".folder.new", True, False),
        (tmp_path.name, True, True),
    ]


@pytest.mark.parametrize("number", range(5))
def test_a_disk_that_fails_in_any_flush_is_told_in_words(tmp_path, monkeypatch, number):
    calls, fsync = [], os.fsync

    def fail_once(descriptor):
        calls.append(descriptor)
        if len(calls) == number + 1:
            raise OSError(5, "Input/output error")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail_once)
    with pytest.raises(RecordError, match=r"folder: can't be written: Input/output error; make room or mend"):
        write_whole(tmp_path / "folder", write_two)
    left = [path.name for path in tmp_path.iterdir()]
    assert left == ([] if number < 4 else ["folder"])  # the last one comes after the renaming
    assert all(fault_of(tmp_path / name) is None for name in left)


def test_no_folder_is_made_where_the_run_is_gone(tmp_path):
    with pytest.raises(RecordError, match="No such file or directory"):
        write_whole(tmp_path / "run" / "checkpoints" / "folder", write_two)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_can_not_be_read_is_a_fault(tmp_path, monkeypatch):
    write_whole(tmp_path / "folder", write_two)

    def fail(file, digest):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("hashlib.file_digest", fail)
    assert "Input/output error" in fault_of(Path(tmp_path / "folder"))
