"""The torch adapter: whose rate is set, when, and what a checkpoint brings back."""

import io

import pytest
import torch

from finetune.errors import SettingError
from finetune.schedules import Constant, Cosine, Linear, ScheduledLR, make_scheduler


def rates(optimizer):
    return [float(group["lr"]) for group in optimizer.param_groups]


def advance(optimizer, scheduler, updates):
    for _ in range(updates):
        optimizer.step()
        scheduler.step()


def test_each_group_keeps_its_own_peak(make_optimizer):
    optimizer = make_optimizer(1.0, 0.1)
    scheduler = make_scheduler(optimizer, Linear(floor=0.5), total_steps=10)
    seen = []
    for _ in range(11):
        seen.append(rates(optimizer))
        advance(optimizer, scheduler, 1)
    assert seen == [pytest.approx([1 - t / 20, 0.1 - t / 200]) for t in range(11)]


def test_the_first_update_is_made_at_the_first_rate(make_optimizer):
    optimizer = make_optimizer(1.0)
    make_scheduler(optimizer, Linear(warmup=2), total_steps=10)
    assert rates(optimizer) == [0.0]


def test_a_schedule_may_be_given_by_name(make_optimizer):
    optimizer = make_optimizer(1.0)
    advance(optimizer, make_scheduler(optimizer, "cosine", total_steps=10), 5)
    assert rates(optimizer) == pytest.approx([0.5])


def test_an_unknown_name_is_refused(make_optimizer):
    with pytest.raises(SettingError, match="did you mean cosine"):
        make_scheduler(make_optimizer(1.0), "cosin", total_steps=10)


def test_epochs_become_updates(make_optimizer):
    optimizer = make_optimizer(1.0)
    scheduler = make_scheduler(optimizer, Constant(warmup="0.5ep"), total_steps=20, updates_per_epoch=8)
    advance(optimizer, scheduler, 1)
    assert rates(optimizer) == [0.25]


def test_only_an_optimizer_is_accepted():
    with pytest.raises(TypeError, match="not an Optimizer"):
        make_scheduler(torch.nn.Linear(1, 1), "linear", total_steps=10)


def test_the_last_rates_are_plain_numbers_that_the_optimizer_has(make_optimizer):
    optimizer = make_optimizer(1.0, torch.tensor(0.5))
    scheduler = make_scheduler(optimizer, "linear", total_steps=4)
    advance(optimizer, scheduler, 1)
    assert scheduler.get_last_lr() == [0.75, 0.375]
    assert [type(rate) for rate in scheduler.get_last_lr()] == [float, float]
    assert rates(optimizer) == [0.75, 0.375]


def test_a_rate_that_is_a_tensor_is_filled_in_place(make_optimizer):
    rate = torch.tensor(0.5)
    optimizer = make_optimizer(rate)
    advance(optimizer, make_scheduler(optimizer, "linear", total_steps=4), 2)
    assert optimizer.param_groups[0]["lr"] is rate
    assert rate.item() == 0.25


def test_the_rate_does_not_drift_in_a_hundred_thousand_steps(make_optimizer):
    optimizer = make_optimizer(0.3)
    scheduler = make_scheduler(optimizer, "linear", total_steps=100_000)
    for _ in range(99_999):
        scheduler.step()
    assert rates(optimizer) == pytest.approx([0.3e-5], rel=1e-9)


def test_a_rate_changed_from_outside_holds_until_the_next_step_only(make_optimizer):
    optimizer = make_optimizer(1.0)
    scheduler = make_scheduler(optimizer, "linear", total_steps=4)
    optimizer.param_groups[0]["lr"] = 7.0
    advance(optimizer, scheduler, 1)
    assert rates(optimizer) == [0.75]


def test_after_the_end_the_rate_stays(make_optimizer):
    optimizer = make_optimizer(1.0)
    advance(optimizer, make_scheduler(optimizer, Cosine(floor=0.1), total_steps=4), 9)
    assert rates(optimizer) == pytest.approx([0.1])


def test_a_loop_may_step_once_an_epoch(make_optimizer):
    optimizer = make_optimizer(1.0)
    scheduler = make_scheduler(optimizer, "linear", total_steps=4)
    seen = []
    for _ in range(4):
        for _ in range(3):
            optimizer.step()
        seen.append(rates(optimizer)[0])
        scheduler.step()
    assert seen == [1.0, 0.75, 0.5, 0.25]


def test_a_position_may_be_set(make_optimizer):
    optimizer = make_optimizer(1.0)
    scheduler = make_scheduler(optimizer, "linear", total_steps=4)
    scheduler.step(epoch=3)
    assert rates(optimizer) == [0.25]
    scheduler.step()
    assert rates(optimizer) == [0.0]


def test_a_second_scheduler_over_the_same_optimizer_starts_from_the_true_peak(make_optimizer):
    optimizer = make_optimizer(1.0, torch.tensor(0.5))
    advance(optimizer, make_scheduler(optimizer, "linear", total_steps=4), 3)
    make_scheduler(optimizer, "linear", total_steps=4)
    assert rates(optimizer) == [1.0, 0.5]


def test_a_group_added_later_joins_at_the_next_step_with_its_own_peak(make_optimizer):
    optimizer = make_optimizer(1.0)
    scheduler = make_scheduler(optimizer, "linear", total_steps=4)
    advance(optimizer, scheduler, 1)
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.1})
    advance(optimizer, scheduler, 1)
    assert rates(optimizer) == pytest.approx([0.5, 0.05])
    assert scheduler.get_last_lr() == pytest.approx([0.5, 0.05])


def reloaded(state):
    """`state` as it comes back from a checkpoint file."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_a_resumed_scheduler_goes_on_where_the_first_stopped(make_optimizer):
    first = make_optimizer(1.0, torch.tensor(0.5))
    stopped = make_scheduler(first, Cosine(warmup=3), total_steps=10)
    advance(first, stopped, 4)
    second = make_optimizer(1.0, torch.tensor(0.5))
    resumed = make_scheduler(second, Cosine(warmup=3), total_steps=10)
    resumed.load_state_dict(reloaded(stopped.state_dict()))
    for _ in range(6):
        assert rates(second) == rates(first)
        advance(first, stopped, 1)
        advance(second, resumed, 1)


def test_the_state_is_plain_numbers(make_optimizer):
    optimizer = make_optimizer(torch.tensor(0.5))
    scheduler = make_scheduler(optimizer, "linear", total_steps=4)
    advance(optimizer, scheduler, 2)
    assert scheduler.state_dict() == {"last_epoch": 2}


def test_a_run_resumed_with_another_length_follows_the_new_one_from_its_first_update(make_optimizer):
    optimizer = make_optimizer(1.0)
    scheduler = make_scheduler(optimizer, "linear", total_steps=10)
    advance(optimizer, scheduler, 5)
    resumed_optimizer = make_optimizer(1.0)
    resumed = make_scheduler(resumed_optimizer, "linear", total_steps=20)
    resumed_optimizer.load_state_dict(reloaded(optimizer.state_dict()))
    resumed.load_state_dict(reloaded(scheduler.state_dict()))
    assert rates(resumed_optimizer) == resumed.get_last_lr() == [0.75]


def test_a_run_resumed_with_another_peak_follows_the_new_one(make_optimizer):
    optimizer = make_optimizer(1.0)
    scheduler = make_scheduler(optimizer, "linear", total_steps=4)
    advance(optimizer, scheduler, 2)
    resumed_optimizer = make_optimizer(8.0)
    resumed = make_scheduler(resumed_optimizer, "linear", total_steps=4)
    resumed_optimizer.load_state_dict(reloaded(optimizer.state_dict()))
    resumed.load_state_dict(reloaded(scheduler.state_dict()))
    assert rates(resumed_optimizer) == [4.0]
    make_scheduler(resumed_optimizer, "linear", total_steps=4)
    assert rates(resumed_optimizer) == [8.0]


def test_a_checkpoint_of_torchs_own_schedulers_can_be_resumed(make_optimizer):
    optimizer = make_optimizer(1.0)
    theirs = torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=9)
    advance(optimizer, theirs, 3)
    resumed_optimizer = make_optimizer(1.0)
    make_scheduler(resumed_optimizer, "linear", total_steps=4).load_state_dict(theirs.state_dict())
    assert rates(resumed_optimizer) == [0.25]


def test_it_is_a_torch_scheduler(make_optimizer):
    scheduler = make_scheduler(make_optimizer(1.0), "linear", total_steps=4)
    assert isinstance(scheduler, ScheduledLR)
    assert isinstance(scheduler, torch.optim.lr_scheduler.LRScheduler)
