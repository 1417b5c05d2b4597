"""The torch adapter: whose rate is set, when and to what."""

import pytest
import torch

from finetune.errors import SettingError
from finetune.schedules import Constant, Cosine, Linear, OneCycle, Plateau, ScheduledLR, make_scheduler
from tests.schedules.stepping import advance, rates


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


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"duration": 0}, "duration"),
        ({"duration": 4, "shape": "round"}, "shape"),
        ({"duration": 4, "floor": 2}, "floor"),
    ],
)
def test_a_faulty_cooldown_is_refused(make_optimizer, settings, field):
    with pytest.raises(SettingError, match=f"^{field}:"):
        make_scheduler(make_optimizer(1.0), "constant", total_steps=9).start_cooldown(**settings)


def test_a_plateau_falls_when_evaluations_stop_improving_as_torchs_does(make_optimizer):
    losses = [3.0, 2.0, 2.0, 2.1, 1.9999, 1.5, 1.6, 1.7, 1.8, 1.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5]
    mine, theirs = make_optimizer(1.0), make_optimizer(1.0)
    ours = make_scheduler(mine, Plateau(gamma=0.5, patience=1, rest=2, threshold=1e-3, floor=0.1), total_steps=99)
    torchs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        theirs, factor=0.5, patience=1, cooldown=2, threshold=1e-3, min_lr=0.1
    )
    for loss in losses:
        ours.step()
        ours.observe(loss)
        torchs.step(loss)
        assert rates(mine) == pytest.approx(rates(theirs))
    assert rates(mine)[0] < 0.3


def test_a_plateau_of_a_metric_of_which_more_is_better(make_optimizer):
    optimizer = make_optimizer(1.0)
    scheduler = make_scheduler(optimizer, Plateau(gamma=0.5, patience=0), total_steps=99)
    for accuracy, rate in [(0.7, 1.0), (0.8, 1.0), (0.8, 0.5), (0.9, 0.5), (float("nan"), 0.25)]:
        scheduler.observe(accuracy, greater_is_better=True)
        assert rates(optimizer) == [rate]


def test_one_cycle_moves_the_momentum_against_the_rate(make_optimizer):
    parameter = torch.nn.Parameter(torch.zeros(1))
    sgd = torch.optim.SGD([parameter], lr=1.0, momentum=0.9)
    adam = torch.optim.AdamW([parameter], lr=1.0)
    for optimizer, momentum in [
        (sgd, lambda: sgd.param_groups[0]["momentum"]),
        (adam, lambda: adam.param_groups[0]["betas"][0]),
    ]:
        scheduler = make_scheduler(optimizer, OneCycle(warmup=4), total_steps=10)
        seen = []
        for _ in range(11):
            seen.append(momentum())
            advance(optimizer, scheduler, 1)
        assert [seen[0], seen[2], seen[4], seen[7], seen[10]] == pytest.approx([0.95, 0.9, 0.85, 0.9, 0.95])


def test_one_cycle_is_refused_where_there_is_no_momentum_to_set():
    optimizer = torch.optim.Adagrad([torch.nn.Parameter(torch.zeros(1))])
    with pytest.raises(SettingError, match=r"^momentum: the optimizer has neither"):
        make_scheduler(optimizer, "one_cycle", total_steps=10)
    make_scheduler(optimizer, OneCycle(momentum=None), total_steps=10)


def test_it_is_a_torch_scheduler(make_optimizer):
    scheduler = make_scheduler(make_optimizer(1.0), "linear", total_steps=4)
    assert isinstance(scheduler, ScheduledLR)
    assert isinstance(scheduler, torch.optim.lr_scheduler.LRScheduler)
