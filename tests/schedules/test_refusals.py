"""What is refused of schedules: settings by themselves, settings that don't fit a run, and unknown names."""

import pytest

from finetune.errors import SettingError, SettingErrors
from finetune.schedules import SCHEDULES, Cosine, Linear, Step, as_schedule, make_schedule


def test_an_absolute_floor_needs_a_peak_that_is_not_below_it():
    schedule = Cosine(floor_rate=1e-3)
    with pytest.raises(SettingError, match=r"^floor_rate: 0.001 is an absolute rate: pass peak"):
        schedule.resolve(total_steps=9)
    with pytest.raises(SettingError, match=r"^floor_rate: 0.001 is above the peak, 0.0001"):
        schedule.resolve(total_steps=9, peak=1e-4)


def test_a_warmup_longer_than_the_run_is_refused():
    with pytest.raises(SettingError, match=r"^warmup: 11 updates are more than the run's 10"):
        Linear(warmup=11).resolve(total_steps=10)


@pytest.mark.parametrize("total_steps", [0, -1])
def test_a_run_of_no_updates_is_refused(total_steps):
    with pytest.raises(SettingError, match=r"^total_steps:"):
        Linear().resolve(total_steps=total_steps)


@pytest.mark.parametrize(("schedule", "field"), [(Linear(warmup="1ep"), "warmup"), (Step(every="1ep"), "every")])
def test_epochs_are_refused_where_their_length_is_unknown(schedule, field):
    with pytest.raises(SettingError, match=f"^{field}:.*updates_per_epoch"):
        schedule.resolve(total_steps=10)


@pytest.mark.parametrize(
    ("name", "settings", "field"),
    [
        ("linear", {"warmup": 0.1}, "warmup"),
        ("linear", {"warmup": -1}, "warmup"),
        ("linear", {"floor": -0.1}, "floor"),
        ("linear", {"floor": 1.1}, "floor"),
        ("linear", {"floor": float("nan")}, "floor"),
        ("linear", {"floor": "0.1"}, "floor"),
        ("linear", {"floor": True}, "floor"),
        ("step", {"gamma": 0.0}, "gamma"),
        ("step", {"gamma": 1.5}, "gamma"),
        ("step", {"gamma": None}, "gamma"),
        ("step", {"every": 0}, "every"),
        ("step", {"every": "0%"}, "every"),
        ("step", {"every": "often"}, "every"),
        ("exponential", {"final": 0.0}, "final"),
        ("exponential", {"final": 2}, "final"),
        ("exponential", {"gamma": 0}, "gamma"),
        ("exponential", {"gamma": 0.9, "final": 0.1}, "gamma"),
        ("exponential", {"gamma": 0.9, "every": 0}, "every"),
        ("exponential", {"every": 10}, "every"),
        ("exponential", {"final": 0.1, "every": 10}, "every"),
        ("linear", {"warmup_shape": "round"}, "warmup_shape"),
        ("linear", {"warmup_shape": "exponential"}, "warmup_start"),
        ("linear", {"warmup_start": 2.0}, "warmup_start"),
        ("linear", {"floor": 0.1, "floor_rate": 1e-5}, "floor_rate"),
        ("linear", {"floor_rate": -1.0}, "floor_rate"),
        ("linear", {"inclusive": 1}, "inclusive"),
        ("polynomial", {"power": 0}, "power"),
        ("polynomial", {"power": float("inf")}, "power"),
        ("cosine", {"waves": 0}, "waves"),
        ("cosine", {"k_decay": float("nan")}, "k_decay"),
        ("cosine_restarts", {"cycles": 0}, "cycles"),
        ("cosine_restarts", {"cycles": 2.0}, "cycles"),
        ("cosine_restarts", {"cycles": 2, "first": 10}, "first"),
        ("cosine_restarts", {"first": 0}, "first"),
        ("cosine_restarts", {"first": 5, "growth": 0}, "growth"),
        ("cosine_restarts", {"growth": 2.0}, "growth"),
        ("cosine_restarts", {"decay": 1.1}, "decay"),
        ("multistep", {"milestones": []}, "milestones"),
        ("multistep", {"milestones": 5}, "milestones"),
        ("multistep", {"milestones": [5, "x"]}, "milestones"),
        ("inverse_sqrt", {"timescale": 0}, "timescale"),
        ("wsd", {"cooldown": 0}, "cooldown"),
        ("wsd", {"shape": "1-sqrt"}, "shape"),
        ("wsd", {"shape": "exponential"}, "floor"),
        ("knee", {"explore": "200%"}, "explore"),
        ("rex", {"beta": 0}, "beta"),
        ("one_cycle", {"momentum": [0.95, 0.85]}, "momentum"),
        ("one_cycle", {"momentum": [0.9]}, "momentum"),
        ("one_cycle", {"momentum": [0.9, 1.0]}, "momentum"),
        ("cyclic", {"warmup": 5}, "warmup"),
        ("cyclic", {"mode": "square"}, "mode"),
        ("cyclic", {"gamma": 0.9}, "gamma"),
        ("cyclic", {"up": 0}, "up"),
        ("piecewise", {"points": []}, "points"),
        ("piecewise", {"points": [[0, 2.0]]}, "points"),
        ("piecewise", {"points": [0.5]}, "points"),
        ("plateau", {"patience": -1}, "patience"),
        ("plateau", {"threshold": -1}, "threshold"),
        ("product", {"of": []}, "of"),
        ("product", {"of": ["linear", "linaer"]}, "of.1.name"),
        ("product", {"of": ["linear", "plateau"]}, "of.1"),
        ("product", {"of": ["one_cycle", "linear"]}, "of.0.momentum"),
        ("phases", {"phases": [{"schedule": "plateau"}]}, "phases.0.schedule"),
        ("phases", {"phases": []}, "phases"),
        ("phases", {"phases": "linear"}, "phases"),
        ("phases", {"phases": ["linear"]}, "phases.0"),
        ("phases", {"phases": [{"schedule": "linear", "length": 3}]}, "phases.0.length"),
        ("phases", {"phases": [{"schedule": "linear", "duration": 0}]}, "phases.0.duration"),
        ("phases", {"phases": [{"schedule": "linear", "peak": 2.0}]}, "phases.0.peak"),
        ("phases", {"phases": [{"schedule": {"name": "linear", "floor": 3}}]}, "phases.0.schedule.floor"),
        ("phases", {"phases": [{"schedule": "linear"}, {"schedule": "cosine"}]}, "phases.1.duration"),
    ],
)
def test_a_setting_out_of_its_range_is_refused_by_name(name, settings, field):
    with pytest.raises(SettingError) as error:
        make_schedule(name, **settings)
    assert error.value.field == field


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({"name": "wsd", "warmup": 50, "cooldown": 60}, "cooldown: 60 updates are more than the 50 after the warmup"),
        ({"name": "knee", "warmup": 50, "explore": 60}, "explore: 60 updates are more than the 50 after the warmup"),
        ({"name": "multistep", "warmup": 50, "milestones": [40]}, "milestones: update 40 lies in the warmup"),
        ({"name": "multistep", "milestones": [40, 30]}, "milestones: updates 40, 30 must ascend"),
        ({"name": "cosine_restarts", "cycles": 101}, "cycles: 101 cycles are more than the 100 updates"),
        ({"name": "cosine_restarts", "first": 40, "growth": 0.5}, "growth: 0.5 makes cycle 6 shorter than 1 update"),
        ({"name": "cosine_restarts", "first": 10, "cycle_warmup": 10}, "cycle_warmup: 10 updates leave no fall"),
        ({"points": [[0, 1.0], [101, 0.0]]}, "points: update 101 is beyond the run's 100"),
        ({"points": [[50, 1.0], ["10%", 0.0]]}, "points: updates 50, 10 must ascend"),
        ({"phases": [{"schedule": "linear", "duration": 101}]}, "phases: they take 101 updates of the run's 100"),
        ({"phases": [{"schedule": "linear", "duration": "50%"}]}, "phases: they take 50 updates of the run's 100"),
        (
            {"phases": [{"schedule": {"name": "linear", "warmup": 20}, "duration": 10}, {"schedule": "linear"}]},
            "phases.0.schedule.warmup: 20 updates are more than the run's 10",
        ),
        ({"of": ["linear", {"name": "step", "every": "1ep"}]}, 'of.1.every: "1ep" counts epochs'),
    ],
)
def test_what_does_not_fit_the_run_is_refused_by_name(schedule, message):
    with pytest.raises(SettingError) as error:
        as_schedule(schedule).resolve(total_steps=100)
    assert str(error.value).startswith(message)


def test_all_problems_come_at_once():
    with pytest.raises(SettingErrors) as error:
        Step(warmup=-1, floor=2.0, gamma=0.0)
    assert [problem.field for problem in error.value.all] == ["warmup", "floor", "gamma"]


@pytest.mark.parametrize(
    ("name", "setting", "message"),
    [
        ("cosine", "num_cycles", "num_cycles: unknown key; here it is waves of cosine, or cycles of cosine_restarts"),
        ("cosine", "min_lr_rate", "min_lr_rate: unknown key; here it is floor"),
        ("wsd", "num_decay_steps", "num_decay_steps: unknown key; here it is cooldown"),
        ("step", "step_size", "step_size: unknown key; here it is every"),
        ("plateau", "cooldown", "cooldown: unknown key; here it is rest"),
        ("linear", "num_training_steps", "num_training_steps: unknown key; here it is nothing: the run's own length"),
    ],
)
def test_a_setting_named_as_elsewhere_gets_its_name_here(name, setting, message):
    with pytest.raises(SettingError) as error:
        make_schedule(name, **{setting: 1})
    assert str(error.value) == message


def test_a_name_from_elsewhere_that_fits_no_setting_is_merely_unknown():
    with pytest.raises(SettingError, match=r"^cooldown: unknown key; linear has warmup,"):
        make_schedule("linear", cooldown=3)


def test_an_unknown_name_gets_the_choices_and_the_nearest():
    with pytest.raises(SettingError) as error:
        make_schedule("cosin")
    assert str(error.value) == (f'name: "cosin" is not one of {", ".join(SCHEDULES)} (did you mean cosine?)')


def test_an_unknown_setting_gets_the_schedules_own_and_the_nearest():
    with pytest.raises(SettingError) as error:
        make_schedule("step", gama=0.5)
    assert str(error.value) == "gama: unknown key (did you mean gamma?)"
