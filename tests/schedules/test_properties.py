"""What holds for every schedule, whatever its settings."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from finetune.errors import SettingError
from finetune.schedules import SCHEDULES, Warmed, make_schedule, make_scheduler

FRACTIONS = st.floats(0.0, 1.0, allow_subnormal=False)
RATIOS = st.floats(0.001, 1.0)
POWERS = st.floats(0.1, 5.0)
INTERVALS = st.integers(1, 300)
FALLING = ["linear", "polynomial", "step", "multistep", "exponential", "inverse_sqrt", "wsd", "knee", "rex", "constant"]
CONTINUOUS = ["linear", "polynomial", "cosine", "inverse_sqrt", "wsd", "knee", "rex"]

OWN = {
    "constant": st.just({}),
    "linear": st.just({}),
    "polynomial": st.fixed_dictionaries({"power": POWERS}),
    "cosine": st.fixed_dictionaries({"waves": POWERS, "k_decay": POWERS}),
    "cosine_restarts": st.one_of(
        st.fixed_dictionaries({"cycles": st.integers(1, 9), "decay": RATIOS}),
        st.fixed_dictionaries({"first": INTERVALS, "growth": st.floats(0.7, 4.0), "decay": RATIOS}),
    ),
    "step": st.fixed_dictionaries({"gamma": RATIOS, "every": INTERVALS}),
    "multistep": st.fixed_dictionaries(
        {"gamma": RATIOS, "milestones": st.lists(INTERVALS, min_size=1, max_size=4, unique=True).map(sorted)}
    ),
    "exponential": st.one_of(
        st.fixed_dictionaries({"final": RATIOS}), st.fixed_dictionaries({"gamma": RATIOS, "every": INTERVALS})
    ),
    "inverse_sqrt": st.fixed_dictionaries({"timescale": INTERVALS}),
    "wsd": st.fixed_dictionaries(
        {"cooldown": INTERVALS, "shape": st.sampled_from(["linear", "cosine", "sqrt", "square", "mirror_cosine"])}
    ),
    "knee": st.fixed_dictionaries({"explore": INTERVALS}),
    "rex": st.fixed_dictionaries({"beta": RATIOS}),
    "one_cycle": st.just({}),
    "cyclic": st.fixed_dictionaries(
        {"up": INTERVALS, "down": INTERVALS, "mode": st.sampled_from(["triangular", "triangular2", "exp_range"])}
    ),
    "plateau": st.fixed_dictionaries({"gamma": RATIOS, "patience": st.integers(0, 9)}),
    "piecewise": st.fixed_dictionaries(
        {"points": st.lists(st.tuples(INTERVALS, FRACTIONS), min_size=1, max_size=6).map(sorted)}
    ),
}


@st.composite
def schedules(draw, names=tuple(OWN), *, inclusive=None):
    """A schedule, alone or in a composition, over a run of T updates that it fits: (schedule, T)."""
    total_steps = draw(st.integers(1, 200))
    name = draw(st.sampled_from(names))
    own = draw(OWN[name])
    if issubclass(SCHEDULES[name], Warmed) and name != "cyclic":
        own |= {
            "warmup": draw(st.integers(0, total_steps)),
            "floor": draw(FRACTIONS),
            "inclusive": draw(st.booleans()) if inclusive is None else inclusive,
        }
    schedule = make_schedule(name, **own)
    try:
        schedule.resolve(total_steps=total_steps)
    except SettingError:
        assume(False)
    return schedule, total_steps


@st.composite
def compositions(draw):
    """A schedule of any kind, two multiplied, or two in sequence, and the length of its run."""
    first, total_steps = draw(schedules())
    first = replace(first, momentum=None) if first.name == "one_cycle" else first
    second = draw(st.one_of(st.just(make_schedule("cosine")), st.just(make_schedule("constant", warmup="50%"))))
    kind = "alone" if first.name == "plateau" else draw(st.sampled_from(["alone", "product", "phases"]))
    if kind == "product":
        return first * second, total_steps
    if kind == "phases":
        phases = [{"schedule": first, "duration": total_steps, "peak": draw(RATIOS)}, {"schedule": second}]
        return make_schedule("phases", phases=phases), total_steps + draw(st.integers(0, 50))
    return first, total_steps


def values_of(schedule, total_steps):
    factor = schedule.resolve(total_steps=total_steps)
    return [factor(t) for t in range(total_steps + 1)]


@given(compositions())
def test_the_factor_lies_between_zero_and_one(run):
    assert all(0.0 <= value <= 1.0 + 1e-12 for value in values_of(*run))


@given(schedules([name for name in OWN if name != "piecewise"]))
def test_after_the_warmup_the_factor_lies_between_the_floor_and_one(run):
    schedule, total_steps = run
    values = values_of(schedule, total_steps)[0 if schedule.name == "cyclic" else schedule.warmup :]
    assert all(schedule.floor - 1e-12 <= value <= 1.0 + 1e-12 for value in values[:-1])


@given(schedules(inclusive=False))
def test_the_warmup_climbs_from_zero_in_equal_steps(run):
    schedule, total_steps = run
    warmup = getattr(schedule, "warmup", 0)
    if schedule.name != "one_cycle":
        assert values_of(schedule, total_steps)[:warmup] == pytest.approx([t / warmup for t in range(warmup)])


@given(schedules(FALLING))
def test_after_the_warmup_the_factor_never_rises(run):
    schedule, total_steps = run
    values = values_of(schedule, total_steps)[schedule.warmup :]
    assert all(after <= before + 1e-12 for before, after in pairwise(values))


@given(schedules(CONTINUOUS, inclusive=False), st.integers(2, 20))
def test_a_longer_run_takes_smaller_steps_where_the_schedule_is_continuous(run, times):
    schedule, _ = run
    smooth = make_schedule(schedule.name, warmup="10%", floor=schedule.floor)
    largest = [
        np.abs(np.diff(values_of(smooth, total)[total // 10 : -total // 50])).max() for total in (1000, 1000 * times)
    ]
    assert largest[1] <= largest[0] * 1.01


@given(compositions(), st.integers(0, 10**6))
def test_outside_the_run_the_factor_is_as_at_its_ends(run, beyond):
    schedule, total_steps = run
    factor = schedule.resolve(total_steps=total_steps)
    assert factor(-beyond) == factor(0)
    assert factor(total_steps + beyond) == factor(total_steps)


@given(compositions())
def test_an_array_of_updates_gives_the_same_as_one_by_one(run):
    schedule, total_steps = run
    factor = schedule.resolve(total_steps=total_steps)
    np.testing.assert_allclose(factor(np.arange(total_steps + 1)), values_of(*run), rtol=1e-12, atol=1e-15)


@given(compositions())
def test_settings_survive_a_round_trip(run):
    schedule, _ = run
    assert make_schedule(**schedule.to_dict()) == schedule


@settings(max_examples=50)
@given(compositions(), st.data())
def test_after_loading_at_any_step_the_rates_are_the_same(run, data):
    schedule, total_steps = run
    stop = data.draw(st.integers(0, total_steps))

    def scheduler():
        optimizer = torch.optim.SGD(
            [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": peak} for peak in (1.0, 0.3)]
        )
        made = make_scheduler(optimizer, schedule, total_steps=total_steps)
        optimizer.step()
        return made

    straight, stopped, resumed = scheduler(), scheduler(), scheduler()
    for _ in range(stop):
        straight.step()
        stopped.step()
    resumed.load_state_dict(stopped.state_dict())
    for _ in range(total_steps - stop):
        assert resumed.get_last_lr() == straight.get_last_lr()
        straight.step()
        resumed.step()
    assert resumed.get_last_lr() == straight.get_last_lr()


@given(st.sampled_from(["linear", "cosine", "polynomial", "rex"]), FRACTIONS, st.integers(0, 100), st.integers(1, 100))
def test_a_decay_ends_exactly_at_the_floor(name, floor, warmup_steps, decay_steps):
    total_steps = warmup_steps + decay_steps
    factor = make_schedule(name, warmup=warmup_steps, floor=floor).resolve(total_steps=total_steps)
    assert factor(total_steps) == floor


@given(st.sampled_from(["linear", "cosine"]), FRACTIONS, st.integers(0, 100), st.integers(1, 100), st.data())
def test_linear_and_cosine_fall_as_far_before_half_way_as_they_still_have_to_after_it(
    name, floor, warmup_steps, decay_steps, data
):
    total_steps = warmup_steps + decay_steps
    factor = make_schedule(name, warmup=warmup_steps, floor=floor).resolve(total_steps=total_steps)
    t = data.draw(st.integers(0, decay_steps))
    assert 1 - factor(warmup_steps + t) == pytest.approx(factor(total_steps - t) - floor, abs=1e-12)
