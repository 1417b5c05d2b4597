"""The cache: an entry is whole or not there, whoever is killed, whatever is full, and however many want it at once."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from finetune.training import cache as module
from finetune.training.cache import ASIDE, Cache, cache_folder

KEY = {"data": "abc", "max_length": 32}


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


def make(folder):
    (folder / "made.txt").write_text("a costly thing")


def read(folder):
    return (folder / "made.txt").read_text()


def forbidden(folder):
    pytest.fail("it is made although it is there")


def kept(cache, key=KEY, *, make=make):
    return cache.keep("things", key, make=make, read=read)


def entry_of(cache):
    (entry,) = [path for path in (cache.folder / "things").iterdir() if path.is_dir()]
    return entry


def test_what_was_made_is_not_made_again(cache):
    assert kept(cache) == "a costly thing"
    assert kept(Cache(cache.folder), make=forbidden) == "a costly thing"
    assert cache.fault is None


@pytest.mark.parametrize("other", [{"data": "abd"}, {"max_length": 33}, {"more": 1}])
def test_another_key_is_another_thing(cache, other):
    kept(cache)
    assert kept(cache, KEY | other, make=lambda folder: (folder / "made.txt").write_text("another")) == "another"
    assert kept(cache, make=forbidden) == "a costly thing"


def flip(entry):
    content = (entry / "made.txt").read_bytes()
    (entry / "made.txt").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


DAMAGE = {
    "a flipped bit": flip,
    "cut short": lambda entry: os.truncate(entry / "made.txt", 3),
    "a file gone": lambda entry: (entry / "made.txt").unlink(),
    "no manifest": lambda entry: (entry / "manifest.json").unlink(),
    "an empty manifest": lambda entry: (entry / "manifest.json").write_text(""),
    "another manifest": lambda entry: (entry / "manifest.json").write_text(json.dumps({"files": {}})),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_entry_is_made_anew(cache, damage):
    kept(cache)
    damage(entry_of(cache))
    assert kept(cache) == "a costly thing"
    assert kept(cache, make=forbidden) == "a costly thing"
    assert not list(cache.folder.rglob(f"{ASIDE}*"))


def full(folder):
    (folder / "made.txt").write_text("a cos")
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_nothing_and_is_told(cache):
    assert kept(cache, make=full) is None
    assert cache.fault == f"{cache.folder}: No space left on device"
    assert [path for path in cache.folder.rglob("*") if not path.name.endswith(".lock")] == [cache.folder / "things"]


def test_the_first_fault_is_the_one_told(cache):
    kept(cache, make=full)
    (cache.folder / "things" / "file").touch()
    assert cache.keep("things/file", KEY, make=make, read=read) is None
    assert cache.fault == f"{cache.folder}: No space left on device"


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    cache = Cache(tmp_path / "file")
    assert kept(cache) is None
    assert cache.fault == f"{tmp_path / 'file'}: Not a directory"


def test_what_others_have_made_is_read_where_nothing_can_be_written(cache, monkeypatch):
    kept(cache)
    monkeypatch.setattr(Path, "mkdir", lambda *args, **settings: pytest.fail("something is written"))
    assert kept(cache, make=forbidden) == "a costly thing"


def test_an_entry_that_cannot_be_read_is_told(cache):
    def broken(folder):
        raise OSError(errno.EIO, "Input/output error")

    assert cache.keep("things", KEY, make=make, read=broken) is None
    assert cache.fault == f"{cache.folder}: Input/output error"


def test_what_is_wrong_with_the_data_is_raised(cache):
    def refuse(folder):
        raise ValueError("it is damaged")

    with pytest.raises(ValueError, match="it is damaged"):
        kept(cache, make=refuse)
    assert not [path for path in (cache.folder / "things").iterdir() if path.is_dir()]
    assert cache.fault is None


def test_without_a_folder_nothing_is_made():
    cache = Cache(None)
    assert kept(cache, make=forbidden) is None
    assert cache.fault is None


def test_where_there_are_no_locks_the_one_that_comes_first_is_kept(cache, monkeypatch):
    monkeypatch.setattr(module, "fcntl", None)

    def overtaken(folder):
        kept(cache)
        (folder / "made.txt").write_text("a costly thing, too late")

    assert kept(cache, make=overtaken) == "a costly thing"
    assert cache.fault is None
    assert not list(cache.folder.rglob(f"{ASIDE}*"))


WORKER = """
import os, signal, sys, time
from pathlib import Path
from finetune.training.cache import Cache

def make(folder):
    with open(sys.argv[2], "a") as log:
        log.write("made\\n")
    (folder / "made.txt").write_text("a costly")
    if sys.argv[3] == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.3)
    (folder / "made.txt").write_text("a costly thing")

cache = Cache(Path(sys.argv[1]))
print(cache.keep("things", {"key": 1}, make=make, read=lambda folder: (folder / "made.txt").read_text()))
"""


def start(cache, log, how):
    command = [sys.executable, "-c", WORKER, str(cache.folder), str(log), how]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


def test_of_many_processes_one_makes_it_and_all_have_it(cache, tmp_path):
    workers = [start(cache, tmp_path / "log", "lives") for _ in range(8)]
    assert [worker.communicate()[0] for worker in workers] == ["a costly thing\n"] * 8
    assert (tmp_path / "log").read_text() == "made\n"


def test_one_that_is_killed_leaves_no_half_entry(cache, tmp_path):
    dead = start(cache, tmp_path / "log", "dies")
    assert (dead.communicate()[0], dead.returncode) == ("", -signal.SIGKILL)
    assert start(cache, tmp_path / "log", "lives").communicate()[0] == "a costly thing\n"
    assert (tmp_path / "log").read_text() == "made\n" * 2


def test_what_a_killed_one_left_goes_when_it_is_old(cache):
    kept(cache)
    old, young = (cache.folder / "things" / f"{ASIDE}{age}" for age in ("old", "young"))
    for aside in (old, young):
        aside.mkdir()
    long_ago = time.time() - module.ABANDONED_SECONDS - 60
    os.utime(old, (long_ago, long_ago))
    kept(cache, KEY | {"more": 1})
    assert (old.exists(), young.exists()) == (False, True)


HOME = Path("~").expanduser()


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"FINETUNE_CACHE": "/scratch/mine", "XDG_CACHE_HOME": "/elsewhere"}, Path("/scratch/mine")),
        ({"FINETUNE_CACHE": "~/mine"}, HOME / "mine"),
        ({"FINETUNE_CACHE": "mine"}, Path.cwd() / "mine"),
        ({"FINETUNE_CACHE": "", "XDG_CACHE_HOME": "/elsewhere"}, None),
        ({"XDG_CACHE_HOME": "/elsewhere"}, Path("/elsewhere/finetune-schedules")),
        ({"XDG_CACHE_HOME": "not/absolute"}, HOME / ".cache" / "finetune-schedules"),
        ({}, HOME / ".cache" / "finetune-schedules"),
    ],
    ids=["ours", "home", "relative", "none", "the user's", "a relative one, which has no meaning", "neither"],
)
def test_where_the_cache_is(monkeypatch, variables, folder):
    for name in ("FINETUNE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == folder
