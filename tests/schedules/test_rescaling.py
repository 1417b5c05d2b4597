"""Schedules of a run that is some times as long: the same course, and what can't have one."""

from dataclasses import dataclass
from fractions import Fraction

import pytest

from finetune.errors import SettingError
from finetune.schedules import SCHEDULES, Run, Warmed, make_schedule, register_schedule
from finetune.schedules.compose import Level
from finetune.schedules.durations import parse_duration, rescale_duration

# An update has 8 samples and 100 tokens, an epoch 90 updates; all lengths are whole in a ninth of the 900 updates.
LENGTHS = {"updates_per_epoch": 90, "samples_per_update": 8, "tokens_per_update": 100}
WHOLE = [
    {"name": "constant", "warmup": 90},
    {"name": "linear", "warmup": "1ep", "floor": 0.1},
    {"name": "polynomial", "warmup": "720 samples"},
    {"name": "cosine", "warmup": "9k tokens"},
    {"name": "cosine", "warmup": "10%", "floor_rate": 1e-5},
    {"name": "step", "warmup": 90, "every": 270, "gamma": 0.5},
    {"name": "multistep", "milestones": [90, "50%", "7ep"]},
    {"name": "exponential", "warmup": 9},
    {"name": "exponential", "gamma": 0.999},
    {"name": "exponential", "gamma": 0.9, "every": 100},
    {"name": "exponential", "gamma": 0.9, "every": "2ep"},
    {"name": "inverse_sqrt", "warmup": 90},
    {"name": "inverse_sqrt", "timescale": 9000},
    {"name": "wsd", "warmup": 9, "cooldown": 450},
    {"name": "knee", "explore": "3ep"},
    {"name": "rex", "warmup": 90},
    {"name": "one_cycle", "warmup": 270},
    {"name": "cosine_restarts", "first": 90, "growth": 2, "cycle_warmup": 9},
    {"name": "cosine_restarts", "cycles": 3},
    {"name": "cyclic", "up": 90, "down": 180, "mode": "exp_range", "gamma": 0.999},
    {"points": [[90, 1.0], ["5ep", 0.3], ["100%", 0.0]]},
    {"of": [{"name": "cosine", "warmup": 90}, {"name": "step", "every": 450}]},
    {"phases": [{"schedule": {"name": "linear", "warmup": 9}, "duration": 90}, {"schedule": "cosine"}]},
    {"name": "plateau", "warmup": 90},
]


def settings_of(case):
    implied = [
        name for key, name in {"phases": "phases", "of": "product", "points": "piecewise"}.items() if key in case
    ]
    return {"name": implied[0], **case} if implied else case


def over(schedule, total):
    return schedule.over(Run(total_steps=total, **LENGTHS), peak=1e-3)


@pytest.mark.parametrize("case", WHOLE, ids=lambda case: " ".join(map(str, case.values()))[:60])
def test_a_ninth_of_the_run_takes_the_same_course(case):
    schedule = make_schedule(**settings_of(case))
    whole, ninth = over(schedule, 900), over(schedule.rescaled(Fraction(1, 9)), 100)
    assert [ninth(step) for step in range(101)] == pytest.approx([whole(9 * step) for step in range(101)], abs=1e-9)


def test_every_schedule_is_among_them():
    shipped = {name for name, kind in SCHEDULES.items() if kind.__module__.startswith("finetune.")}
    assert {settings_of(case)["name"] for case in WHOLE} == shipped


def test_the_default_timescale_is_rescaled_too():
    assert make_schedule("inverse_sqrt").rescaled(Fraction(1, 10)).timescale == 1000


@pytest.mark.parametrize(
    ("value", "third"),
    [
        (0, 0),
        (9, 3),
        ("10", 4),
        ("10%", "10%"),
        ("3ep", "1ep"),
        ("2ep", "0.666666666666ep"),
        ("64k samples", "21333.333333333333 samples"),
        ("2M tokens", "666666.666666666666 tokens"),
    ],
)
def test_a_third_of_a_duration(value, third):
    assert rescale_duration(value, Fraction(1, 3), field="warmup") == third


@pytest.mark.parametrize("epochs", range(1, 10))
def test_a_part_of_an_epoch_has_as_many_updates_as_if_it_were_exact(epochs):
    # 13 updates an epoch: ⌈13·epochs/27⌉, which is whole for 27 epochs alone.
    cut = parse_duration(rescale_duration(f"{epochs}ep", Fraction(1, 27), field="x"), field="x")
    assert cut.run_steps(updates_per_epoch=13) == -(-13 * epochs // 27)
    assert cut.run_steps(updates_per_epoch=27) == epochs


def test_phases_in_updates_still_make_the_whole_run():
    # Each rounded up by itself they would be 14, 12 and 9: 35 of ⌈100/3⌉ = 34.
    phases = [{"schedule": "constant", "duration": updates} for updates in (40, 35, 25)]
    schedule = make_schedule("phases", phases=phases).rescaled(Fraction(1, 3))
    assert [phase.duration for phase in schedule.phases] == [14, 11, 9]
    assert over(schedule, 34)(33) == 1


@pytest.mark.parametrize(
    ("case", "field"),
    [
        ({"name": "cosine", "warmup": 2}, "warmup"),
        ({"name": "multistep", "milestones": [2, 5]}, "milestones"),
        ({"phases": [{"schedule": {"name": "step", "every": 2}}]}, "phases.0.schedule.every"),
        ({"phases": [{"schedule": "cosine", "duration": 2}, {"schedule": "linear"}]}, "phases.0.duration"),
        ({"of": ["cosine", {"name": "linear", "warmup": 2}]}, "of.1.warmup"),
    ],
)
def test_what_would_be_less_than_an_update_is_refused_with_its_place(case, field):
    with pytest.raises(SettingError) as caught:
        make_schedule(**settings_of(case)).rescaled(Fraction(1, 3))
    assert str(caught.value).startswith(f"{field}: 2 updates would be less than 1 in a run 1/3 as long: give more, or")


@pytest.fixture
def registered():
    """Registers a schedule for the test alone."""
    names = []

    def register(name):
        names.append(name)
        return register_schedule(name)

    yield register
    for name in names:
        SCHEDULES.pop(name)


def test_a_number_that_may_or_may_not_count_updates_is_refused(registered):
    @registered("unclear")
    @dataclass(frozen=True, kw_only=True)
    class Unclear(Warmed):
        period: int = 5
        strength: float = 0.5
        formula = "1"

        def _decay(self, span):
            return Level()

    with pytest.raises(SettingError, match="period: 5 may count updates, and no rule says whether; define the field"):
        Unclear().rescaled(Fraction(1, 3))


def test_a_registered_function_of_the_progress_is_rescaled(registered):
    @registered("powered")
    def powered(progress, *, power=2):
        return (1 - progress) ** power

    assert make_schedule("powered", warmup=9).rescaled(Fraction(1, 3)) == make_schedule("powered", warmup=3)
