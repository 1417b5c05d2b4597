"""The schedules by name: their values at landmarks, and what their settings refuse."""

import dataclasses
import json
import pickle
from functools import reduce
from operator import or_
from typing import Annotated

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from finetune.errors import SettingError
from finetune.schedules import SCHEDULES, Cosine, Exponential, Linear, Step, make_schedule

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
]


@pytest.mark.parametrize(("name", "settings", "values"), LANDMARKS)
def test_landmarks(name, settings, values):
    factor = make_schedule(name, warmup=10, **settings).resolve(total_steps=110)
    assert {t: factor(t) for t in values} == pytest.approx(values)


def test_cosine_with_a_warmup_of_3_in_10_updates_and_a_floor_of_a_tenth():
    factor = Cosine(warmup=3, floor=0.1).resolve(total_steps=10)
    assert [factor(t) for t in (3, 5, 9, 10)] == pytest.approx([1, 0.83057, 0.144564, 0.1], abs=1e-5)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("warmup", ["25%", "2ep", 20, "20"])
def test_a_warmup_may_be_in_any_unit(name, warmup):
    factor = make_schedule(name, warmup=warmup).resolve(total_steps=80, updates_per_epoch=10)
    assert [factor(5), factor(20)] == [0.25, 1.0]


def test_a_step_may_be_as_long_as_an_epoch():
    factor = Step(gamma=0.5, every="1ep").resolve(total_steps=30, updates_per_epoch=10)
    assert [factor(t) for t in (9, 10, 19, 20)] == [1.0, 0.5, 0.5, 0.25]


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_warmup_may_take_the_whole_run(name):
    factor = make_schedule(name, warmup="100%").resolve(total_steps=4)
    assert [factor(t) for t in range(6)] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]


@pytest.mark.parametrize("name", SCHEDULES)
def test_without_warmup_the_first_update_is_at_the_peak(name):
    assert make_schedule(name).resolve(total_steps=1)(0) == 1.0


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
    ],
)
def test_a_setting_out_of_its_range_is_refused_by_name(name, settings, field):
    with pytest.raises(SettingError) as error:
        make_schedule(name, **settings)
    assert error.value.field == field


def test_an_unknown_name_gets_the_choices_and_the_nearest():
    with pytest.raises(SettingError) as error:
        make_schedule("cosin")
    assert str(error.value) == (
        'name: "cosin" is not one of constant, linear, cosine, step, exponential (did you mean cosine?)'
    )


def test_an_unknown_setting_gets_the_schedules_own_and_the_nearest():
    with pytest.raises(SettingError) as error:
        make_schedule("step", gama=0.5)
    assert str(error.value) == "gama: unknown: step has warmup, floor, gamma, every (did you mean gamma?)"


def test_the_table_holds_each_schedule_under_its_own_name():
    assert {name: schedule().name for name, schedule in SCHEDULES.items()} == {name: name for name in SCHEDULES}


def test_a_schedule_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Cosine().floor = 0.5


@pytest.mark.parametrize(("name", "settings"), [(name, settings) for name, settings, _ in LANDMARKS])
def test_settings_survive_a_round_trip_through_json(name, settings):
    schedule = make_schedule(name, warmup="10%", **settings)
    assert make_schedule(**json.loads(json.dumps(schedule.to_dict()))) == schedule


def test_settings_are_kept_as_they_were_written():
    assert Exponential(warmup="10%", gamma=0.5, every="0.5ep").to_dict() == {
        "name": "exponential",
        "warmup": "10%",
        "floor": 0.0,
        "gamma": 0.5,
        "every": "0.5ep",
    }


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_resolved_schedule_can_be_pickled(name):
    factor = make_schedule(name, warmup=3).resolve(total_steps=10)
    copy = pickle.loads(pickle.dumps(factor))
    assert [copy(t) for t in range(11)] == [factor(t) for t in range(11)]


@pytest.fixture(scope="module")
def union():
    return TypeAdapter(Annotated[reduce(or_, SCHEDULES.values()), Field(discriminator="name")])


def test_pydantic_tells_the_schedules_apart_by_name(union):
    assert union.validate_json('{"name": "step", "gamma": 0.5, "every": "30%"}') == Step(gamma=0.5, every="30%")


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "step", "gama": 0.5}',
        '{"name": "step", "gamma": "0.5"}',
        '{"name": "step", "gamma": 1.5}',
        '{"name": "cosine", "gamma": 0.5}',
        '{"name": "cosine", "warmup": true}',
        '{"name": "cosine", "warmup": 0.1}',
        '{"name": "cosine", "floor": true}',
        '{"name": "cosin"}',
        "{}",
    ],
)
def test_pydantic_refuses_what_the_schedules_refuse_and_converts_nothing(union, text):
    with pytest.raises(ValidationError):
        union.validate_json(text)
