"""Schedules of one's own: as a function, as a class, and what is refused."""

import math
import pickle
from dataclasses import dataclass

import numpy as np
import pytest

from finetune.errors import SettingError
from finetune.schedules import SCHEDULES, Schedule, Warmed, make_schedule, register_schedule


@pytest.fixture(autouse=True)
def _catalogue(monkeypatch):
    """Whatever a test registers is forgotten after it."""
    before = dict(SCHEDULES)
    yield
    SCHEDULES.clear()
    SCHEDULES.update(before)


def half(progress, *, power=2.0):
    """Falls as a power of the half."""
    return 0.0 if progress == 1 else math.pow(1 - progress, power)


def test_a_function_becomes_a_schedule_with_warmup_floor_and_its_own_settings():
    assert register_schedule("half")(half) is half
    schedule = make_schedule("half", warmup=2, floor=0.2, power=1.0)
    factor = schedule.resolve(total_steps=10)
    assert [factor(t) for t in (0, 1, 2, 6, 10)] == pytest.approx([0.0, 0.5, 1.0, 0.6, 0.2])
    np.testing.assert_allclose(factor(np.arange(11)), [factor(t) for t in range(11)])
    assert make_schedule(**schedule.to_dict()) == schedule
    assert pickle.loads(pickle.dumps(factor))(6) == factor(6)
    assert schedule.__doc__ == half.__doc__


def test_an_unknown_setting_of_a_function_is_refused():
    register_schedule("half")(half)
    with pytest.raises(SettingError, match=r"^powr: unknown key \(did you mean power\?\)"):
        make_schedule("half", powr=1.0)


def test_a_class_becomes_a_schedule():
    @register_schedule("always_half")
    @dataclass(frozen=True, kw_only=True)
    class AlwaysHalf(Warmed):
        formula = "1/2"
        half: float = 0.5

        def _decay(self, span):
            return lambda step: self.half

    schedule = make_schedule("always_half", warmup=1)
    assert schedule.resolve(total_steps=3)(2) == 0.5
    assert make_schedule(**schedule.to_dict()) == schedule
    assert make_schedule("always_half", half=0.25).resolve(total_steps=3)(2) == 0.25


def test_a_name_that_is_taken_is_refused():
    with pytest.raises(SettingError, match=r'"cosine" is taken by Cosine'):
        register_schedule("cosine")(half)


def test_registering_the_same_again_is_no_fault():
    register_schedule("half")(half)
    register_schedule("half")(half)


@pytest.mark.parametrize("faulty", [lambda progress, power: 1.0, lambda progress, *, power: 1.0])
def test_a_setting_without_a_name_or_a_default_is_refused(faulty):
    with pytest.raises(SettingError, match="power must be keyword-only and have a default"):
        register_schedule("faulty")(faulty)


def test_a_class_that_is_no_schedule_is_refused():
    with pytest.raises(SettingError, match="must extend Schedule"):
        register_schedule("faulty")(dict)


def test_a_schedule_without_a_formula_of_its_own_says_so():
    with pytest.raises(NotImplementedError):
        Schedule().resolve(total_steps=3)
