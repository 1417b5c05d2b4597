"""Units, and how they become updates."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.errors import SettingError
from finetune.schedules import Run, parse_duration


def steps(value, **run):
    return parse_duration(value, field="warmup").steps(Run(**run))


@pytest.mark.parametrize("value", [200, "200", " 200 "])
def test_a_plain_number_is_updates(value):
    assert steps(value, total_steps=1000) == 200


def test_a_percentage_is_a_share_of_the_run():
    assert steps("10%", total_steps=250) == 25


@pytest.mark.parametrize(("value", "expected"), [("0.5ep", 20), (".5ep", 20), ("3ep", 120)])
def test_ep_is_epochs(value, expected):
    assert steps(value, total_steps=1000, updates_per_epoch=40) == expected


@pytest.mark.parametrize(("value", "expected"), [("10%", 2), ("0.5ep", 4), ("0%", 0), ("0ep", 0), ("100%", 11)])
def test_part_of_an_update_is_rounded_up(value, expected):
    assert steps(value, total_steps=11, updates_per_epoch=7) == expected


def test_seven_percent_of_a_hundred_is_seven_although_float_arithmetic_says_eight():
    assert math.ceil(100 * 0.07) == 8
    assert steps("7%", total_steps=100) == 7


@given(hundredths=st.integers(0, 10_000), total_steps=st.integers(1, 10**6))
def test_a_share_is_the_least_whole_number_not_below_the_exact_product(hundredths, total_steps):
    value = f"{hundredths // 100}.{hundredths % 100:02d}%"
    exact = Fraction(hundredths * total_steps, 10_000)
    assert 0 <= steps(value, total_steps=total_steps) - exact < 1


@pytest.mark.parametrize("updates_per_epoch", [None, 0, -1])
def test_epochs_without_their_length_name_what_to_pass(updates_per_epoch):
    with pytest.raises(SettingError, match=r'^warmup: "0.5ep" counts epochs.*pass updates_per_epoch'):
        steps("0.5ep", total_steps=100, updates_per_epoch=updates_per_epoch)


@pytest.mark.parametrize(("value", "expected"), [("3ep", 21), ("0.5ep", 4), (200, 200), ("200", 200)])
def test_a_run_is_as_long_as_its_updates_or_epochs(value, expected):
    assert parse_duration(value, field="duration").run_steps(updates_per_epoch=7) == expected


def test_a_run_cannot_be_a_share_of_itself():
    with pytest.raises(SettingError, match=r'^duration: "10%" is a share of the run'):
        parse_duration("10%", field="duration").run_steps(updates_per_epoch=7)


@pytest.mark.parametrize("value", [0, "0", "0ep"])
def test_a_run_has_at_least_one_update(value):
    with pytest.raises(SettingError, match="at least 1 update"):
        parse_duration(value, field="duration").run_steps(updates_per_epoch=7)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (0.1, 'did you mean "10%"?'),
        ("0.07", 'did you mean "7%"?'),
        (200.0, "did you mean 200?"),
        (2.5, 'did you mean "2.5ep"?'),
        (-1, "is negative"),
        ("-5%", "is negative"),
        (-0.1, "is negative"),
        ("101%", "longer than the run"),
        ("100.01%", "longer than the run"),
        (True, "is not a duration"),
        (None, "is not a duration"),
        ([3], "is not a duration"),
        ("", "is not a duration"),
        ("ten", "is not a duration"),
        ("10 percent", "is not a duration"),
        ("1e3", "is not a duration"),
        ("%", "is not a duration"),
        ("1.2.3ep", "is not a duration"),
        ("٣", "is not a duration"),
        (float("nan"), "is not a duration"),
        (float("inf"), "is not a duration"),
    ],
)
def test_anything_else_is_refused(value, problem):
    with pytest.raises(SettingError) as error:
        parse_duration(value, field="schedule.warmup")
    assert error.value.field == "schedule.warmup"
    assert problem in error.value.problem


@pytest.mark.parametrize("value", ["200", "12.5%", "0.5ep"])
def test_a_duration_is_shown_as_it_is_written(value):
    assert str(parse_duration(value, field="warmup")) == value


def test_equal_lengths_are_equal_whatever_they_were_written_for():
    assert parse_duration("200", field="warmup") == parse_duration(200, field="every")
