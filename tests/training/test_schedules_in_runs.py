"""What a run makes of its schedule: groups, metrics, tokens, a cooldown on request."""

import numpy as np
import pytest

from finetune.cli import main
from finetune.errors import RecordError, SettingError
from finetune.evaluation.record import RECORD
from finetune.recipe import load_recipe
from finetune.schedules import make_schedule
from finetune.training.cooldown import REQUEST, request_cooldown
from finetune.training.trainer import ScheduledTrainer

QUICK = ("evaluation.every=null", "checkpoints.every=null")


def rates(record, group="decay"):
    (found,) = [each.rates for each in record.schedule.groups if each.name == group]
    return found


def test_a_group_has_its_own_peak_floor_and_schedule(train):
    record, _ = train(
        *QUICK,
        "groups={head: {parameters: classifier, learning_rate: 1e-2, schedule: {floor: 0.5}}, "
        "low: {parameters: 'layer.0.', schedule: constant}}",
    )
    total = record.schedule.total_steps
    main_factor = make_schedule("cosine", warmup="10%").resolve(total_steps=total)
    head_factor = make_schedule("cosine", warmup="10%", floor=0.5).resolve(total_steps=total)
    assert {group.name: group.peak for group in record.schedule.groups} == {
        "head": 1e-2,
        "head.no_decay": 1e-2,
        "low": 5e-3,
        "low.no_decay": 5e-3,
        "decay": 5e-3,
        "no_decay": 5e-3,
    }
    assert rates(record) == pytest.approx([5e-3 * main_factor(t) for t in range(total)])
    assert rates(record, "head.no_decay") == pytest.approx([1e-2 * head_factor(t) for t in range(total)])
    assert rates(record, "low") == [5e-3] * total


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ("{head: {parameters: clasifier}}", r'groups\.head\.parameters: "clasifier" is in no name that is left'),
        ("{head: {parameters: classifier, schedule: {warmup: 1000}}}", r"groups\.head\.schedule\.warmup: 1000 updates"),
    ],
)
def test_a_group_that_does_not_fit_is_refused(train, groups, message):
    with pytest.raises(SettingError, match=message):
        train(f"groups={groups}")


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ("{head: {parameters: '('}}", "groups.head.parameters: ( is not a regular expression"),
        ("{head: {parameters: x, learning_rate: 0}}", "groups.head.learning_rate"),
        (
            "{head: {parameters: x, schedule: {flor: 1}}}",
            "groups.head.schedule.flor: unknown key (did you mean floor?)",
        ),
        ("{decay: {parameters: x}}", "groups.decay: is the name of a group that all parameters are in"),
    ],
)
def test_a_faulty_group_is_refused_at_load(small_recipe, groups, message, capsys):
    with pytest.raises(SystemExit):
        main(["run", str(small_recipe), f"groups={groups}"])
    assert message in capsys.readouterr().err


def test_a_plateau_falls_by_the_metric_that_selects(train):
    record, _ = train(
        "schedule={name: plateau, warmup: 0, patience: 0, threshold: 10.0, gamma: 0.5}",
        "evaluation.every=5",
        "checkpoints.every=null",
    )
    # The first evaluation, after update 5, is the best so far; none is ten times better.
    assert rates(record)[:10] == [5e-3] * 10
    assert rates(record)[10:15] == [2.5e-3] * 5


def test_tokens_and_samples_are_counted(train):
    record, _ = train(*QUICK, "schedule={name: constant, warmup: 64 samples}")
    per_update = 200 / record.schedule.updates_per_epoch
    warmup = int(np.ceil(64 / per_update))
    assert rates(record)[: warmup + 1] == pytest.approx([5e-3 * t / warmup for t in range(warmup + 1)])
    longer, _ = train(*QUICK, "schedule={name: constant, warmup: 1k tokens}")
    assert 0.0 in rates(longer)
    assert rates(longer)[-1] == 5e-3


class _InterruptedError(Exception):
    pass


def ask(monkeypatch, run, *, at, stop_at=None):
    """Has a cooldown asked for before update `at`, and the run interrupted before update `stop_at`."""
    original = ScheduledTrainer.training_step

    def step(self, *args, **kwargs):
        if self.state.global_step == at and not getattr(self, "asked", False):
            self.asked = True
            request_cooldown(run(), duration="6", shape="linear", floor=0.0)
        if self.state.global_step == stop_at:
            raise _InterruptedError
        return original(self, *args, **kwargs)

    monkeypatch.setattr(ScheduledTrainer, "training_step", step)


def test_a_cooldown_on_request_ends_the_run_and_is_recorded(train, small_recipe, monkeypatch):
    folder = small_recipe.parent / "runs" / "small"
    ask(monkeypatch, lambda: next(folder.iterdir()), at=7)
    record, run = train("schedule={name: constant, warmup: 0}", *QUICK)
    assert rates(record) == pytest.approx([5e-3] * 10 + [5e-3 * (1 - t / 6) for t in range(6)])
    assert record.schedule.cooldown == {"at": 10, "shape": "linear", "floor": 0.0}
    assert (record.schedule.total_steps, record.results.last.step) == (16, 16)
    assert not (run / REQUEST).exists()
    with pytest.raises(RecordError, match="that run has ended"):
        request_cooldown(run, duration="6", shape="linear", floor=0.0)


def test_an_interrupted_cooldown_goes_on_cooling_down(train, small_recipe, monkeypatch):
    folder = small_recipe.parent / "runs" / "small"
    often = ("schedule={name: constant, warmup: 0}", "evaluation.every=null", "checkpoints.every=4")
    ask(monkeypatch, lambda: next(folder.iterdir()), at=7, stop_at=13)
    with pytest.raises(_InterruptedError):
        train(*often)
    monkeypatch.undo()
    record, run = train(*often)
    assert rates(record) == pytest.approx([5e-3] * 10 + [5e-3 * (1 - t / 6) for t in range(6)])
    assert (run / RECORD).exists()


def test_a_cooldown_longer_than_what_is_left_is_cut_to_it(train, small_recipe, monkeypatch):
    folder = small_recipe.parent / "runs" / "small"
    ask(monkeypatch, lambda: next(folder.iterdir()), at=17)
    record, _ = train("schedule={name: constant, warmup: 0}", *QUICK, "training.duration=23")
    assert rates(record) == pytest.approx([5e-3] * 20 + [5e-3 * (1 - t / 3) for t in range(3)])


def test_a_run_that_is_not_there_cannot_cool_down(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(["cooldown", str(tmp_path)])
    assert end.value.code == 2
    assert "no run" in capsys.readouterr().err


def test_an_edited_plugin_is_another_run(small_recipe, tmp_path):
    from finetune.training.run_directory import run_directory

    plugin = tmp_path / "mine.py"
    plugin.write_text("x = 1\n")
    recipe = load_recipe(small_recipe, [f"plugins=[{plugin}]"], allow_plugins=True)
    before = run_directory(recipe, source=small_recipe)
    plugin.write_text("x = 2\n")
    assert run_directory(recipe, source=small_recipe) != before
