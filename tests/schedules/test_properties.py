"""What holds for every schedule, whatever its settings."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.schedules import SCHEDULES, make_schedule

FRACTIONS = st.floats(0.0, 1.0, allow_subnormal=False)
RATIOS = st.floats(0.001, 1.0)


@st.composite
def resolved(draw):
    """A schedule resolved over a run of T updates, W of them warmup, with its floor: (factor, W, T, floor)."""
    total_steps = draw(st.integers(1, 200))
    warmup_steps = draw(st.integers(0, total_steps))
    floor = draw(FRACTIONS)
    name = draw(st.sampled_from(sorted(SCHEDULES)))
    own = {}
    if name == "step":
        own = {"gamma": draw(RATIOS), "every": draw(st.integers(1, 300))}
    elif name == "exponential":
        own = draw(
            st.one_of(
                st.fixed_dictionaries({"final": RATIOS}),
                st.fixed_dictionaries({"gamma": RATIOS, "every": st.integers(1, 300)}),
            )
        )
    schedule = make_schedule(name, warmup=warmup_steps, floor=floor, **own)
    return schedule.resolve(total_steps=total_steps), warmup_steps, total_steps, floor


@settings(deadline=None)
@given(resolved())
def test_the_warmup_climbs_from_zero_in_equal_steps_and_ends_at_the_peak(run):
    factor, warmup_steps, _, _ = run
    assert [factor(t) for t in range(warmup_steps)] == pytest.approx([t / warmup_steps for t in range(warmup_steps)])
    assert factor(warmup_steps) == 1.0


@settings(deadline=None)
@given(resolved())
def test_after_the_warmup_the_factor_never_rises(run):
    factor, warmup_steps, total_steps, _ = run
    values = [factor(t) for t in range(warmup_steps, total_steps + 10)]
    assert values == sorted(values, reverse=True)


@settings(deadline=None)
@given(resolved())
def test_after_the_warmup_the_factor_lies_between_the_floor_and_one(run):
    factor, warmup_steps, total_steps, floor = run
    assert all(floor <= factor(t) <= 1.0 for t in range(warmup_steps, total_steps + 10))


@settings(deadline=None)
@given(resolved(), st.integers(0, 10**6))
def test_outside_the_run_the_factor_is_as_at_its_ends(run, beyond):
    factor, _, total_steps, _ = run
    assert factor(-beyond) == factor(0)
    assert factor(total_steps + beyond) == factor(total_steps)


@settings(deadline=None)
@given(st.sampled_from(["linear", "cosine"]), FRACTIONS, st.integers(0, 100), st.integers(1, 100))
def test_linear_and_cosine_end_exactly_at_the_floor(name, floor, warmup_steps, decay_steps):
    total_steps = warmup_steps + decay_steps
    factor = make_schedule(name, warmup=warmup_steps, floor=floor).resolve(total_steps=total_steps)
    assert factor(total_steps) == floor


@settings(deadline=None)
@given(st.sampled_from(["linear", "cosine"]), FRACTIONS, st.integers(0, 100), st.integers(1, 100), st.data())
def test_linear_and_cosine_fall_as_far_before_half_way_as_they_still_have_to_after_it(
    name, floor, warmup_steps, decay_steps, data
):
    total_steps = warmup_steps + decay_steps
    factor = make_schedule(name, warmup=warmup_steps, floor=floor).resolve(total_steps=total_steps)
    t = data.draw(st.integers(0, decay_steps))
    assert 1 - factor(warmup_steps + t) == pytest.approx(factor(total_steps - t) - floor, abs=1e-12)
