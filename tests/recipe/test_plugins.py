"""A recipe's own Python files: run only when allowed, once, and named when they fail."""

import pickle

import pytest

from finetune.errors import RecipeError
from finetune.recipe import load_recipe
from finetune.schedules import SCHEDULES

PLUGIN = """
from finetune import register_schedule

@register_schedule("{name}")
def fall(progress, *, power=2.0):
    return (1 - progress) ** power
"""


@pytest.fixture
def plugged(write, complete, tmp_path):
    """Writes a recipe with a plugin of the given text; returns the recipe's path."""

    def make(text, schedule):
        (tmp_path / "mine.py").write_text(text, encoding="utf-8")
        return write(f"{complete}schedule: {schedule}\nplugins: [mine.py]\n")

    yield make
    for name in [name for name in SCHEDULES if name.startswith("plugged")]:
        del SCHEDULES[name]


def test_a_plugins_schedule_can_be_used_by_name(plugged):
    path = plugged(PLUGIN.format(name="plugged_in"), "{name: plugged_in, power: 1.0, warmup: 10%}")
    recipe = load_recipe(path, ["schedule.floor=0.5"], allow_plugins=True)
    assert recipe.schedule.resolve(total_steps=10)(10) == 0.5
    assert recipe.plugins == (path.parent / "mine.py",)
    # As it goes to other processes, where the function stays a function.
    assert pickle.loads(pickle.dumps(recipe)) == recipe


def test_a_plugin_that_is_not_allowed_is_not_run(plugged, tmp_path):
    path = plugged(f"open({str(tmp_path / 'ran')!r}, 'w')", "plugged_out")
    with pytest.raises(RecipeError) as error:
        load_recipe(path)
    (line,) = str(error.value).splitlines()[1:]
    assert "plugins: " in line
    assert "pass --allow-plugins if you trust it" in line
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("text", "message"), [("1/0", "failed: ZeroDivisionError: division by zero"), ("x = (", "failed: SyntaxError")]
)
def test_a_plugin_that_fails_is_named(plugged, text, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe(plugged(text, "cosine"), allow_plugins=True)


def test_a_plugin_that_is_missing_is_named(write, complete):
    with pytest.raises(RecipeError, match=r"absent\.py is not a Python file that can be read"):
        load_recipe(write(complete + "plugins: absent.py\n"), allow_plugins=True)
