"""The schedules by name: their values at landmarks, in runs of any length, and their settings in other forms."""

import dataclasses
import json
import math
import pickle

import numpy as np
import pytest

from finetune.errors import SettingError
from finetune.schedules import SCHEDULES, Constant, Cosine, Exponential, Linear, Step, make_schedule

# A run of 110 updates: warmup ends at 10, half-way down at 60, done at 110.
LANDMARKS = [
    ("constant", {}, {0: 0.0, 5: 0.5, 10: 1.0, 60: 1.0, 110: 1.0}),
    ("linear", {}, {0: 0.0, 5: 0.5, 10: 1.0, 60: 0.5, 85: 0.25, 110: 0.0}),
    ("linear", {"floor": 0.2}, {5: 0.5, 10: 1.0, 60: 0.6, 110: 0.2}),
    ("cosine", {}, {0: 0.0, 5: 0.5, 10: 1.0, 60: 0.5, 110: 0.0}),
    ("cosine", {"floor": 0.2}, {5: 0.5, 10: 1.0, 60: 0.6, 110: 0.2}),
    ("step", {"gamma": 0.5, "every": 20}, {10: 1.0, 29: 1.0, 30: 0.5, 49: 0.5, 50: 0.25, 110: 0.5**5}),
    ("step", {"gamma": 0.5, "every": 20, "floor": 0.3}, {30: 0.5, 50: 0.3, 110: 0.3}),
    ("step", {"gamma": 0.5, "every": "30%"}, {42: 1.0, 43: 0.5, 75: 0.5, 76: 0.25, 108: 0.25, 109: 0.125}),
    ("exponential", {}, {10: 1.0, 60: 0.1, 110: 0.01}),
    ("exponential", {"final": 0.25}, {10: 1.0, 60: 0.5, 110: 0.25}),
    ("exponential", {"final": 0.25, "floor": 0.4}, {60: 0.5, 85: 0.4, 110: 0.4}),
    ("exponential", {"gamma": 0.9}, {10: 1.0, 11: 0.9, 12: 0.81}),
    ("exponential", {"gamma": 0.25, "every": 50}, {10: 1.0, 35: 0.5, 60: 0.25, 110: 0.0625}),
    ("polynomial", {}, {10: 1.0, 60: 0.25, 110: 0.0}),
    ("polynomial", {"power": 0.5, "floor": 0.2}, {10: 1.0, 85: 0.6, 110: 0.2}),
    ("cosine", {"waves": 1.5}, {10: 1.0, 10 + 50 / 3: 0.5, 60: 0.5, 110: 0.0}),
    ("cosine", {"k_decay": 2.0}, {10: 1.0, 60: 0.5 * (1 + math.cos(math.pi / 4)), 110: 0.0}),
    ("cosine_restarts", {"cycles": 2}, {10: 1.0, 35: 0.5, 59: 0.5 * (1 + math.cos(math.pi * 0.98)), 60: 1.0, 110: 0.0}),
    ("cosine_restarts", {"first": 25, "decay": 0.5}, {10: 1.0, 35: 0.5, 60: 0.25, 85: 0.125, 110: 0.0}),
    ("cosine_restarts", {"first": 20, "growth": 4.0}, {10: 1.0, 20: 0.5, 30: 1.0, 70: 0.5, 110: 0.0}),
    ("cosine_restarts", {"first": 60, "growth": 0.5}, {10: 1.0, 40: 0.5, 70: 1.0, 85: 0.5, 100: 1.0, 107.5: 0.5}),
    ("cosine_restarts", {"cycles": 2, "cycle_warmup": 10, "floor": 0.2}, {10: 0.2, 15: 0.6, 20: 1.0, 40: 0.6, 60: 0.2}),
    ("multistep", {"milestones": [30, 70], "gamma": 0.5}, {10: 1.0, 29: 1.0, 30: 0.5, 69: 0.5, 70: 0.25, 110: 0.25}),
    ("inverse_sqrt", {}, {10: 1.0, 40: 0.5, 90: 1 / 3}),
    ("inverse_sqrt", {"timescale": 30, "floor": 0.6}, {10: 1.0, 70: 1 / 3**0.5 if 1 / 3**0.5 > 0.6 else 0.6}),
    ("wsd", {"cooldown": 50, "shape": "linear"}, {10: 1.0, 60: 1.0, 85: 0.5, 110: 0.0}),
    ("wsd", {"cooldown": 100, "floor": 0.1}, {10: 1.0, 35: 0.1 + 0.9 * 0.5, 110: 0.1}),
    ("wsd", {"cooldown": 100, "shape": "square"}, {60: 0.75}),
    ("wsd", {"cooldown": 100, "shape": "cosine"}, {60: 0.5, 35: 0.5 * (1 + math.cos(math.pi / 4))}),
    ("wsd", {"cooldown": 100, "shape": "mirror_cosine"}, {60: 0.5, 35: 1.5 - 0.5 * (1 + math.cos(math.pi / 4))}),
    ("wsd", {"cooldown": 100, "shape": "exponential", "floor": 0.01}, {10: 1.0, 60: 0.1, 110: 0.01}),
    ("knee", {"explore": 60}, {10: 1.0, 70: 1.0, 90: 0.5, 110: 0.0}),
    ("rex", {}, {10: 1.0, 60: 0.5 / 0.75, 110: 0.0}),
    ("one_cycle", {}, {0: 0.04, 5: 0.52, 10: 1.0, 60: (1 + 4e-6) / 2, 110: 4e-6}),
    ("plateau", {}, {5: 0.5, 10: 1.0, 110: 1.0}),
]

# The same run without warmup, and schedules that have none.
WITHOUT_WARMUP = [
    ("cyclic", {"up": 20, "down": 30}, {0: 0.0, 10: 0.5, 20: 1.0, 35: 0.5, 50: 0.0, 70: 1.0, 110: 0.5}),
    ("cyclic", {"up": 20, "mode": "triangular2", "floor": 0.2}, {0: 0.2, 20: 1.0, 40: 0.2, 60: 0.6, 100: 0.4}),
    ("cyclic", {"up": 20, "mode": "exp_range", "gamma": 0.99}, {20: 0.99**20, 60: 0.99**60}),
    ("piecewise", {"points": [[10, 0.5], ["50%", 1.0], [110, 0.2]]}, {0: 0.5, 10: 0.5, 55: 1.0, 82.5: 0.6, 110: 0.2}),
    ("piecewise", {"points": [[0, 1.0], [50, 0.2]], "shape": "constant"}, {0: 1.0, 49: 1.0, 50: 0.2, 110: 0.2}),
    ("product", {"of": ["linear", {"name": "step", "gamma": 0.5, "every": 55}]}, {0: 1.0, 54: 56 / 110, 55: 0.25}),
    (
        "phases",
        {
            "phases": [
                {"schedule": {"name": "linear", "warmup": "50%"}, "duration": 20},
                {"schedule": "constant", "peak": 0.5},
                {"schedule": "cosine", "duration": "40%", "peak": 0.5},
            ]
        },
        {0: 0.0, 10: 1.0, 15: 0.5, 20: 0.5, 65: 0.5, 66: 0.5, 88: 0.25, 110: 0.0},
    ),
]
ALL = [(name, {"warmup": 10, **own}, values) for name, own, values in LANDMARKS] + WITHOUT_WARMUP


@pytest.mark.parametrize(("name", "settings", "values"), ALL)
def test_landmarks(name, settings, values):
    factor = make_schedule(name, **settings).resolve(total_steps=110)
    assert {t: factor(t) for t in values} == pytest.approx(values)


def test_every_schedule_has_landmarks():
    assert {name for name, _, _ in ALL} == set(SCHEDULES)


@pytest.mark.parametrize(("name", "settings"), [(name, settings) for name, settings, _ in ALL])
def test_an_array_of_updates_gives_the_same_as_one_by_one(name, settings):
    factor = make_schedule(name, **settings).resolve(total_steps=110)
    steps = np.arange(-3, 115)
    np.testing.assert_allclose(factor(steps), [factor(int(t)) for t in steps], rtol=0, atol=1e-15)
    assert {type(factor(t)) for t in (0, 10, 50, 110)} == {float}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        (name, settings)
        for name, settings, _ in LANDMARKS
        if name != "cosine_restarts" and "every" not in settings and name != "multistep"
    ],
)
def test_an_inclusive_run_begins_above_zero_reaches_its_peak_and_ends_where_the_decay_does(name, settings):
    plain = make_schedule(name, warmup=10, **settings).resolve(total_steps=110)
    factor = make_schedule(name, warmup=10, inclusive=True, **settings).resolve(total_steps=111)
    assert 0 < factor(0) < factor(1) < factor(9) < 1
    assert [factor(t) for t in range(10, 111)] == pytest.approx([plain(t) for t in range(10, 111)])
    assert factor(110) == factor(111) == pytest.approx(plain(110), abs=1e-12)


@pytest.mark.parametrize("name", ["linear", "cosine", "polynomial", "rex", "wsd", "knee", "cosine_restarts"])
@pytest.mark.parametrize("total_steps", [12, 57])
def test_the_last_update_of_an_inclusive_run_is_exactly_at_the_floor(name, total_steps):
    factor = make_schedule(name, floor=0.125, warmup=2, inclusive=True).resolve(total_steps=total_steps)
    assert [factor(0), factor(2), factor(total_steps - 1)] == [1 / 3, 1.0, 0.125]


@pytest.mark.parametrize(
    ("shape", "half_way"),
    [("linear", 0.55), ("cosine", 0.55), ("sqrt", 0.1 + 0.9 * 0.5**0.5), ("square", 0.325), ("exponential", 0.1**0.5)],
)
def test_a_warmup_has_any_shape_and_start(shape, half_way):
    factor = Constant(warmup=8, warmup_shape=shape, warmup_start=0.1).resolve(total_steps=20)
    assert [factor(0), factor(4), factor(8)] == pytest.approx([0.1, half_way, 1.0])


@pytest.mark.parametrize("name", [name for name in SCHEDULES if hasattr(SCHEDULES[name], "floor_rate")])
def test_an_absolute_floor_is_the_fraction_that_it_is_of_the_peak(name):
    absolute = {"floor_rate": 2e-4} | ({"momentum": None} if name == "one_cycle" else {})
    factor = make_schedule(name, **absolute).resolve(total_steps=50, peak=1e-3)
    expected = make_schedule(name, floor=0.2).resolve(total_steps=50)
    assert [factor(t) for t in range(51)] == pytest.approx([expected(t) for t in range(51)])


def test_cycles_lie_where_whole_numbers_say_and_not_a_logarithm():
    factor = make_schedule("cosine_restarts", first=1, growth=3.0).resolve(total_steps=400)
    starts = [(3**i - 1) // 2 for i in range(7)]
    assert [t for t in range(400) if factor(t) == 1.0] == starts  # 121 is the fifth: timm and torch miss it


def test_samples_and_tokens_are_counted_where_the_run_knows_them():
    schedule = Constant(warmup="1k tokens")
    assert schedule.resolve(total_steps=50, tokens_per_update=100)(5) == 0.5
    assert Constant(warmup="320 samples").resolve(total_steps=50, samples_per_update=32)(5) == 0.5
    with pytest.raises(SettingError, match=r"^warmup: .*tokens per update are not known here"):
        schedule.resolve(total_steps=50)


def test_schedules_can_be_multiplied():
    factor = (Linear() * Step(gamma=0.5, every=5)).resolve(total_steps=10)
    assert [factor(4), factor(5)] == [0.6, 0.25]


def test_shares_of_a_whole_make_the_whole_run_whatever_its_length():
    phases = [
        {"schedule": "constant", "duration": share, "peak": peak}
        for share, peak in [("33.3%", 1.0), ("33.3%", 0.5), ("33.4%", 0.25)]
    ]
    for total_steps in (3, 7, 100, 101):
        values = [
            make_schedule("phases", phases=phases).resolve(total_steps=total_steps)(t) for t in range(total_steps)
        ]
        assert values == sorted(values, reverse=True)
        assert set(values) == {1.0, 0.5, 0.25}


def test_cosine_with_a_warmup_of_3_in_10_updates_and_a_floor_of_a_tenth():
    factor = Cosine(warmup=3, floor=0.1).resolve(total_steps=10)
    assert [factor(t) for t in (3, 5, 9, 10)] == pytest.approx([1, 0.83057, 0.144564, 0.1], abs=1e-5)


# The schedules that have a warmup of their own and are at their peak after it.
PEAKED = [name for name in SCHEDULES if name not in ("cyclic", "phases", "product", "piecewise", "one_cycle")]


@pytest.mark.parametrize("name", PEAKED)
@pytest.mark.parametrize("warmup", ["25%", "2ep", 20, "20"])
def test_a_warmup_may_be_in_any_unit(name, warmup):
    factor = make_schedule(name, warmup=warmup).resolve(total_steps=80, updates_per_epoch=10)
    assert [factor(5), factor(20)] == [0.25, 1.0]


def test_a_step_may_be_as_long_as_an_epoch():
    factor = Step(gamma=0.5, every="1ep").resolve(total_steps=30, updates_per_epoch=10)
    assert [factor(t) for t in (9, 10, 19, 20)] == [1.0, 0.5, 0.5, 0.25]


# Without milestones, a cooldown and a search, which must lie in the run.
UNBOUND = [name for name in PEAKED if name not in ("multistep", "wsd", "knee", "cosine_restarts")]


@pytest.mark.parametrize("name", UNBOUND)
def test_a_warmup_may_take_the_whole_run(name):
    factor = make_schedule(name, warmup="100%").resolve(total_steps=4)
    assert [factor(t) for t in range(6)] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]


@pytest.mark.parametrize("name", UNBOUND)
def test_without_warmup_the_first_update_is_at_the_peak(name):
    assert make_schedule(name).resolve(total_steps=1)(0) == 1.0


def test_the_table_holds_each_schedule_under_its_own_name():
    assert {name: schedule.name for name, schedule in SCHEDULES.items()} == {name: name for name in SCHEDULES}


def test_a_schedule_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Cosine().floor = 0.5


@pytest.mark.parametrize(("name", "settings"), [(name, settings) for name, settings, _ in ALL])
def test_settings_survive_a_round_trip_through_json(name, settings):
    schedule = make_schedule(name, **settings)
    assert make_schedule(**json.loads(json.dumps(schedule.to_dict()))) == schedule


def test_settings_are_kept_as_they_were_written():
    assert Exponential(warmup="10%", gamma=0.5, every="0.5ep").to_dict() == {
        "name": "exponential",
        "warmup": "10%",
        "floor": 0.0,
        "gamma": 0.5,
        "every": "0.5ep",
    }


@pytest.mark.parametrize(("name", "settings"), [(name, settings) for name, settings, _ in ALL])
def test_a_resolved_schedule_can_be_pickled(name, settings):
    factor = make_schedule(name, **settings).resolve(total_steps=110)
    copy = pickle.loads(pickle.dumps(factor))
    assert [copy(t) for t in range(111)] == [factor(t) for t in range(111)]
