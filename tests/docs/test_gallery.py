"""The gallery of schedules: as its script would write it, and what its script takes for the same picture."""

from html import unescape
from importlib import util

import numpy as np
import pytest

from finetune.cli.schedules import PLATEAU_FALLS
from finetune.recipe import read_schedule
from finetune.schedules import SCHEDULES, Plateau, Run
from tests.docs.pages import ROOT, lines, page

SCRIPTS = ROOT / "scripts"
COMMANDS = lines("docs/gallery.md")


@pytest.fixture(scope="module")
def gallery():
    """The module of scripts/write_gallery.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        found = util.spec_from_file_location("write_gallery", SCRIPTS / "write_gallery.py")
        module = util.module_from_spec(found)
        found.loader.exec_module(module)
    return module


def test_the_page_is_as_it_would_be_written(gallery):
    assert page("docs/gallery.md") == gallery.page(), "run scripts/write_gallery.py"


def factors(schedule, updates):
    """What `finetune schedules plot` draws of a schedule."""
    run, steps = Run(total_steps=updates, updates_per_epoch=updates // 4), np.arange(updates + 1)
    if isinstance(schedule, Plateau):
        return schedule.after(tuple(int(share * updates) for share in PLATEAU_FALLS), run, peak=1e-3)(steps)
    return schedule.over(run, peak=1e-3)(steps)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_picture_shows_the_schedules_of_the_command_above_it(gallery, name):
    """By their formulas, so that a stale picture is found without drawing all of them anew."""
    picture = page(f"docs/gallery/{name}.svg")
    (line,) = [line for line in COMMANDS if line.endswith(f"--output {name}.svg")]
    specs = gallery.specs_of(name)
    assert all(spec in line for spec in specs)
    assert {unescape(each) for each in gallery.names_in(picture)} >= set(specs)
    schedules = [read_schedule(spec) for spec in specs]
    assert {schedule.name for schedule in schedules} == {name}
    curves = np.array([factors(schedule, gallery.UPDATES) for schedule in schedules])
    top, bottom = curves.max(), curves.min()
    lines = gallery.lines_in(picture)
    assert len(lines) == len(curves)
    for drawn, curve in zip(lines, curves, strict=True):
        places = np.array(drawn)
        expected = np.stack([np.linspace(0, 1, len(curve)), (top - curve) / (top - bottom or 1)], axis=1)
        apart = np.abs(places[None] - expected[:, None]).max(axis=2).min(axis=1)
        assert apart.max() <= gallery.CLOSE


def test_a_picture_that_is_drawn_anew_is_the_same(gallery):
    drawn = next(text for path, text in gallery.written(["rex"]).items() if path.name == "rex.svg")
    assert gallery.same(page("docs/gallery/rex.svg"), drawn)


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
