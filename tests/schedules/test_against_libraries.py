"""Equality with transformers and torch at every update of a run."""

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.schedules import Constant, Cosine, Exponential, Linear, Step, make_scheduler

TOTAL_STEPS = st.integers(1, 60)
FRACTIONS = st.floats(0.0, 1.0, allow_subnormal=False)


@st.composite
def runs(draw):
    """The lengths of a run and of its warmup, in updates."""
    total_steps = draw(TOTAL_STEPS)
    return total_steps, draw(st.integers(0, total_steps))


def ours(schedule, total_steps):
    return lambda optimizer: make_scheduler(optimizer, schedule, total_steps=total_steps)


@pytest.fixture(scope="module")
def assert_equal(rates_used):
    def check(schedule, theirs, total_steps):
        expected = rates_used(theirs, total_steps)
        assert rates_used(ours(schedule, total_steps), total_steps) == pytest.approx(expected, rel=1e-9, abs=1e-12)

    return check


@settings(deadline=None, max_examples=25)
@given(run=runs())
def test_constant_is_transformers_constant_with_warmup(assert_equal, run):
    total_steps, warmup_steps = run
    assert_equal(
        Constant(warmup=warmup_steps),
        lambda optimizer: transformers.get_constant_schedule_with_warmup(optimizer, warmup_steps),
        total_steps,
    )


@settings(deadline=None, max_examples=25)
@given(run=runs())
def test_linear_is_transformers_linear(assert_equal, run):
    total_steps, warmup_steps = run
    assert_equal(
        Linear(warmup=warmup_steps),
        lambda optimizer: transformers.get_linear_schedule_with_warmup(optimizer, warmup_steps, total_steps),
        total_steps,
    )


@settings(deadline=None, max_examples=25)
@given(run=runs())
def test_cosine_is_transformers_cosine(assert_equal, run):
    total_steps, warmup_steps = run
    assert_equal(
        Cosine(warmup=warmup_steps),
        lambda optimizer: transformers.get_cosine_schedule_with_warmup(optimizer, warmup_steps, total_steps),
        total_steps,
    )


@settings(deadline=None, max_examples=25)
@given(run=runs(), floor=FRACTIONS)
def test_cosine_with_a_floor_is_transformers_cosine_with_min_lr_rate(assert_equal, run, floor):
    total_steps, warmup_steps = run
    assert_equal(
        Cosine(warmup=warmup_steps, floor=floor),
        lambda optimizer: transformers.get_cosine_with_min_lr_schedule_with_warmup(
            optimizer, warmup_steps, total_steps, min_lr_rate=floor
        ),
        total_steps,
    )


@settings(deadline=None, max_examples=25)
@given(total_steps=TOTAL_STEPS, floor=FRACTIONS)
def test_cosine_is_torch_cosine_annealing(assert_equal, total_steps, floor):
    assert_equal(
        Cosine(floor=floor),
        lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=total_steps, eta_min=floor),
        total_steps,
    )


@settings(deadline=None, max_examples=25)
@given(total_steps=TOTAL_STEPS, floor=FRACTIONS)
def test_linear_is_torch_linear(assert_equal, total_steps, floor):
    assert_equal(
        Linear(floor=floor),
        lambda optimizer: torch.optim.lr_scheduler.LinearLR(
            optimizer, start_factor=1.0, end_factor=floor, total_iters=total_steps
        ),
        total_steps,
    )


@settings(deadline=None, max_examples=25)
@given(total_steps=TOTAL_STEPS, gamma=st.floats(0.1, 1.0), every=st.integers(1, 70))
def test_step_is_torch_step(assert_equal, total_steps, gamma, every):
    assert_equal(
        Step(gamma=gamma, every=every),
        lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, step_size=every, gamma=gamma),
        total_steps,
    )


@settings(deadline=None, max_examples=25)
@given(total_steps=TOTAL_STEPS, gamma=st.floats(0.1, 1.0))
def test_exponential_is_torch_exponential(assert_equal, total_steps, gamma):
    assert_equal(
        Exponential(gamma=gamma),
        lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=gamma),
        total_steps,
    )


@settings(deadline=None, max_examples=25)
@given(total_steps=TOTAL_STEPS, final=st.floats(0.001, 1.0))
def test_exponential_by_its_final_factor_is_torch_exponential_by_the_root_of_it(assert_equal, total_steps, final):
    assert_equal(
        Exponential(final=final),
        lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=final ** (1 / total_steps)),
        total_steps,
    )
