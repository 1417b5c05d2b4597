"""The commands, the code and the table of docs/schedules.md; its fragments of recipes are in test_snippets.py."""

from fractions import Fraction
from pathlib import Path

import pytest

from finetune.evaluation.record import read_record
from finetune.recipe import load_recipe
from finetune.schedules import SCHEDULES, make_schedule
from finetune.training.trainer import ScheduledTrainer
from tests.docs.pages import ROOT, called, code, lines

PAGE = "docs/schedules.md"
DRAWN = lines(PAGE, start="finetune schedules plot ")


def test_schedules_are_drawn_as_the_page_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("recipes").symlink_to(ROOT / "recipes")
    in_the_terminal, into_a_file = DRAWN
    assert called(in_the_terminal) == called(into_a_file) == 0
    assert "wsd cooldown=30% shape=linear" in capsys.readouterr().out
    assert "step gamma=0.5" in Path("a.svg").read_text(encoding="utf-8")


CONVENTIONS = lines(PAGE, "## The two conventions")


@pytest.mark.parametrize(("row", "inclusive"), [(1, False), (2, True)])
def test_the_two_conventions_are_as_in_the_table(row, inclusive):
    updates = [int(word.strip("()")) for word in CONVENTIONS[0].split()[1:]]
    told = [Fraction(word) for word in CONVENTIONS[row].split()[1 : len(updates) + 1]]
    factor = make_schedule("linear", warmup=2, floor=0, inclusive=inclusive).resolve(total_steps=8)
    assert [factor(update) for update in updates] == pytest.approx([float(each) for each in told])
    peak = CONVENTIONS[3].index("▲")
    assert CONVENTIONS[row][peak : peak + 2].strip() == "1"


(ON_REQUEST,) = lines(PAGE, "## A cooldown on request")


@pytest.mark.slow
def test_a_cooldown_is_asked_for_as_the_page_says(recipe, monkeypatch):
    original, asked = ScheduledTrainer.training_step, []

    def step(self, *arguments, **options):
        if self.state.global_step == 5 and not asked:
            (run,) = Path("runs/recipe").iterdir()
            asked.append(called(ON_REQUEST.replace("RECIPE/RUN", f"recipe/{run.name}")))
        return original(self, *arguments, **options)

    monkeypatch.setattr(ScheduledTrainer, "training_step", step)
    assert called("finetune run recipe.yaml schedule=constant training.duration=100 evaluation.every=null") == 0
    assert asked == [0]
    (run,) = Path("runs/recipe").iterdir()
    schedule = read_record(run).schedule
    assert schedule.cooldown == {"at": 10, "shape": "sqrt", "floor": 0.0}
    assert schedule.total_steps == 20


(OWN,) = code(PAGE, "python", "## Your own")


def test_a_schedule_of_ones_own_is_registered_as_the_page_says(small_recipe):
    small_recipe.with_name("my_schedules.py").write_text(OWN, encoding="utf-8")
    path = small_recipe.with_name("own.yaml")
    settings = "schedule: {name: sigmoid, steepness: 5.0, floor: 0.2}\nplugins: [my_schedules.py]\n"
    path.write_text(f"base: {small_recipe.name}\n{settings}", encoding="utf-8")
    try:
        factor = load_recipe(path, ["schedule.warmup=0"], allow_plugins=True).schedule.resolve(total_steps=10)
        assert [factor(step) for step in (0, 5, 10)] == pytest.approx([1.0, 0.6, 0.2])
    finally:
        SCHEDULES.pop("sigmoid", None)


(REFINE,) = lines(PAGE, "## Fitted to a run")


def test_a_schedule_is_fitted_to_a_run_as_the_page_says(small_recipe, finished_run, monkeypatch):
    monkeypatch.chdir(small_recipe.parent)
    Path("runs").symlink_to(finished_run.parents[1])
    assert called(REFINE.replace("RECIPE/RUN", f"{finished_run.parent.name}/{finished_run.name}")) == 0
    fitted = small_recipe.read_text(encoding="utf-8").replace("schedule:", "base: refined.yaml\n#")
    Path("fitted.yaml").write_text(fitted, encoding="utf-8")
    schedule = load_recipe(Path("fitted.yaml")).schedule
    assert schedule.name == "piecewise"
    assert schedule.resolve(total_steps=26)(26) == 0


(FIND,) = lines(PAGE, "## A peak rate to start from")


@pytest.mark.slow
def test_a_peak_rate_is_looked_for_as_the_page_says(recipe, capsys):
    recipe.write_text(recipe.read_text(encoding="utf-8").replace("batch_size: 64", "batch_size: 2"), encoding="utf-8")
    assert called(FIND) == 0
    assert "3 seeds" in capsys.readouterr().out
    assert Path("search.png").read_bytes().startswith(b"\x89PNG")
