"""The gallery of schedules: as its script would write it, and what its script takes for the same picture."""

import subprocess
import sys
from importlib import util

import pytest

from finetune.recipe import read_schedule
from finetune.schedules import SCHEDULES
from tests.docs.pages import ROOT, commands_in, page

SCRIPTS = ROOT / "scripts"


@pytest.fixture(scope="module")
def gallery():
    """The module of scripts/write_gallery.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        found = util.spec_from_file_location("write_gallery", SCRIPTS / "write_gallery.py")
        module = util.module_from_spec(found)
        found.loader.exec_module(module)
    return module


def test_it_is_as_it_would_be_written():
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "write_gallery.py"), "--check"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_has_a_picture_of_itself(gallery, name):
    (line,) = [line for line in commands_in(page("docs/gallery.md")) if line.endswith(f"--output {name}.svg")]
    for spec in gallery.specs_of(name):
        assert spec in line
        assert read_schedule(spec).name == name
    assert (ROOT / "docs" / "gallery" / f"{name}.svg").is_file()


def test_a_picture_is_the_same_wherever_its_words_stand_but_not_under_another_line(gallery):
    picture = page("docs/gallery/cosine.svg")
    moved = picture.replace("translate(58,50)", "translate(61,50)")
    assert moved != picture
    assert gallery.same(picture, moved)
    assert not gallery.same(picture.replace("L103.375,", "L103.375,9", 1), picture)
    assert not gallery.same(picture.replace(">cosine warmup=10%</text>", ">cosine warmup=20%</text>"), picture)
    assert not gallery.same("", picture)


def test_a_text_is_the_same_only_where_it_is_equal(gallery):
    assert gallery.same("a", "a")
    assert not gallery.same("a ", "a")
