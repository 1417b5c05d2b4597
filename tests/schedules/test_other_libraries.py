"""The cases of another library's own tests, and where the others are at fault."""

import math

import pytest
import torch
import transformers

from finetune.schedules import make_schedule, make_scheduler
from tests.schedules.other_libraries import optax_rates, timm_rates, torch_rates

# The cases of transformers' own tests of its schedules, at a peak of 10: a run of 10 updates, 2 of them warmup.
THEIR_CASES = [
    ("constant", {"warmup": 0}, [10.0] * 10),
    ("constant", {"warmup": 4}, [0.0, 2.5, 5.0, 7.5] + [10.0] * 6),
    ("linear", {}, [0.0, 5.0, 10.0, 8.75, 7.5, 6.25, 5.0, 3.75, 2.5, 1.25]),
    ("cosine", {}, [0.0, 5.0, 10.0, 9.61, 8.53, 6.91, 5.0, 3.08, 1.46, 0.38]),
    ("cosine_restarts", {"cycles": 2}, [0.0, 5.0, 10.0, 8.53, 5.0, 1.46, 10.0, 8.53, 5.0, 1.46]),
    (
        "polynomial",
        {"power": 2.0, "floor_rate": 1e-7},
        [0.0, 5.0, 10.0, 7.656, 5.625, 3.906, 2.5, 1.406, 0.625, 0.156],
    ),
    ("inverse_sqrt", {}, [0.0, 5.0, 10.0, 8.165, 7.071, 6.325, 5.774, 5.345, 5.0, 4.714]),
    (
        "wsd",
        {"cooldown": 2, "shape": "cosine"},
        [0.0, 5.0, 10.0, 10.0, 10.0, 10.0, 10.0, 10.0, 10.0, 5.0],
    ),
]


@pytest.mark.parametrize("reload_at", [None, 5])
@pytest.mark.parametrize(("name", "own", "expected"), THEIR_CASES)
def test_the_cases_of_transformers_own_tests(name, own, expected, reload_at):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=10.0)
    scheduler = make_scheduler(optimizer, make_schedule(name, **{"warmup": 2, **own}), total_steps=10)
    rates = []
    for t in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
        if t == reload_at:
            scheduler.load_state_dict(scheduler.state_dict())
    assert rates == pytest.approx(expected, abs=0.01)


def transformers_rate(make, t, *arguments, **own):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    return getattr(transformers, make)(optimizer, *arguments, **own).lr_lambdas[0](t)


def torch_restarts(t, first, growth):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, first, growth)
    scheduler.step(t)
    return optimizer.param_groups[0]["lr"]


def ours_at(t, name, total_steps, **own):
    return make_schedule(name, **own).resolve(total_steps=total_steps)(t)


# What another library gives, what it should give, and ours. A library that mends a fault makes its test fail: strike it.
FAULTS = {
    "transformers' cosine rises again after the end": (
        lambda: transformers_rate("get_cosine_schedule_with_warmup", 15, 0, 10),
        lambda: ours_at(15, "cosine", 10),
        0.0,
    ),
    "torch's cosine rises again after the end": (
        lambda: torch_rates(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 10), 16)[15],
        lambda: ours_at(15, "cosine", 10),
        0.0,
    ),
    "torch finds a restart by a logarithm, and misses the fifth of T₀ = 1, μ = 3": (
        lambda: torch_restarts(121, 1, 3),
        lambda: ours_at(121, "cosine_restarts", 200, first=1, growth=3.0),
        1.0,
    ),
    "timm finds a restart by a logarithm, and misses the fifth of T₀ = 1, μ = 3": (
        lambda: timm_rates("CosineLRScheduler", 122, t_initial=1, cycle_mul=3.0, cycle_limit=99)[121],
        lambda: ours_at(121, "cosine_restarts", 200, first=1, growth=3.0),
        1.0,
    ),
    "transformers rounds the progress, and misses a restart": (
        lambda: transformers_rate("get_cosine_with_hard_restarts_schedule_with_warmup", 15, 0, 22, num_cycles=22),
        lambda: ours_at(15, "cosine_restarts", 22, cycles=22),
        1.0,
    ),
    "optax multiplies by 1/49, and misses the fall after 49 updates": (
        lambda: optax_rates("exponential_decay", 50, 1.0, 49, 0.5, staircase=True)[49],
        lambda: ours_at(49, "step", 50, every=49, gamma=0.5),
        0.5,
    ),
    "optax's constant stays at 0 where the warmup has no updates": (
        lambda: optax_rates("warmup_constant_schedule", 6, 0.0, 1.0, 0)[5],
        lambda: ours_at(5, "constant", 10, warmup=0),
        1.0,
    ),
    "a cooldown longer than what is left lowers the peak in transformers": (
        lambda: transformers_rate("get_wsd_schedule", 5, 5, 10, 10),
        lambda: ours_at(5, "wsd", 10, warmup=5, cooldown=5, shape="cosine"),
        1.0,
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_where_others_are_at_fault_ours_is_right(fault):
    theirs, ours, right = FAULTS[fault]
    assert ours() == pytest.approx(right, abs=1e-12)
    assert abs(theirs() - right) > 0.01


def test_transformers_gives_a_group_of_a_tenth_of_the_peak_a_tenth_of_the_floor_and_we_do_not():
    def groups():
        return torch.optim.SGD(
            [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": peak} for peak in (1.0, 0.1)], lr=1.0
        )

    theirs, ours = groups(), groups()
    scheduler = transformers.get_cosine_with_min_lr_schedule_with_warmup(theirs, 0, 10, min_lr=0.05)
    mine = make_scheduler(ours, make_schedule("cosine", floor_rate=0.05), total_steps=10)
    for _ in range(10):
        theirs.step()
        scheduler.step()
        ours.step()
        mine.step()
    assert [group["lr"] for group in theirs.param_groups] == pytest.approx([0.05, 0.005])
    assert [group["lr"] for group in ours.param_groups] == pytest.approx([0.05, 0.05])


def test_transformers_polynomial_divides_by_zero_where_the_warmup_takes_the_whole_run():
    with pytest.raises(ZeroDivisionError):
        transformers_rate("get_polynomial_decay_schedule_with_warmup", 10, 10, 10)
    assert ours_at(10, "polynomial", 10, warmup=10) == 1.0


def test_seven_percent_of_a_hundred_is_seven_here_and_eight_in_transformers():
    assert math.ceil(100 * 0.07) == 8
    assert ours_at(7, "linear", 100, warmup="7%") == 1.0
