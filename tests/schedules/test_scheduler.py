"""The torch adapter: whose rate is set, when, and what a checkpoint brings back."""

import io
import json
from fractions import Fraction

import pytest
import torch

from finetune.errors import ResumeError, SettingError
from finetune.schedules import Constant, Cosine, Linear, OneCycle, Plateau, ScheduledLR, make_scheduler


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


def test_the_state_is_plain_values(make_optimizer):
    optimizer = make_optimizer(torch.tensor(0.5))
    scheduler = make_scheduler(optimizer, "linear", total_steps=4, samples_per_update=Fraction(7, 3))
    advance(optimizer, scheduler, 2)
    state = scheduler.state_dict()
    assert reloaded(state) == json.loads(json.dumps(state)) == state
    assert (state["last_epoch"], state["plan"]["peaks"]) == (2, [0.5])


class Resumed:
    """A run of `schedule` that is stopped after `at` updates, and its state, from which others go on."""

    def __init__(self, make_optimizer, schedule="linear", *, at=4, total_steps=10, peak=1.0):
        self.make_optimizer = make_optimizer
        self.optimizer = make_optimizer(peak)
        self.scheduler = make_scheduler(self.optimizer, schedule, total_steps=total_steps)
        advance(self.optimizer, self.scheduler, at)

    def go_on(self, schedule="linear", *, total_steps=10, peak=1.0, on_change="refuse"):
        """Returns the resumed scheduler and its optimizer, after a passage through a file."""
        optimizer = self.make_optimizer(peak)
        scheduler = make_scheduler(optimizer, schedule, total_steps=total_steps, on_change=on_change)
        optimizer.load_state_dict(reloaded(self.optimizer.state_dict()))
        scheduler.load_state_dict(reloaded(self.scheduler.state_dict()))
        self.optimizer, self.scheduler = optimizer, scheduler
        return scheduler, optimizer

    def rates(self, updates):
        """Returns the rate of each of the next updates."""
        seen = []
        for _ in range(updates):
            seen.append(float(self.optimizer.param_groups[0]["lr"]))
            advance(self.optimizer, self.scheduler, 1)
        return seen


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"total_steps": 20}, "total_steps: 10, now 20"),
        ({"peak": 8.0}, "peak rates: [1.0], now [8.0]"),
        ({"schedule": "cosine"}, "schedule.name: linear, now cosine"),
        ({"schedule": Linear(floor=0.5)}, "schedule.floor: 0.0, now 0.5"),
    ],
)
def test_a_run_resumed_with_a_change_is_refused_with_the_difference(make_optimizer, change, message):
    with pytest.raises(ResumeError) as error:
        Resumed(make_optimizer).go_on(**change)
    assert message in str(error.value)
    assert "after update 4" in str(error.value)


def test_another_batch_size_is_no_change_to_a_schedule_that_counts_no_samples(make_optimizer):
    state = make_scheduler(make_optimizer(1.0), "linear", total_steps=4, samples_per_update=8).state_dict()
    make_scheduler(make_optimizer(1.0), "linear", total_steps=4, samples_per_update=9).load_state_dict(state)


def test_another_batch_size_is_a_change_to_a_schedule_that_counts_samples(make_optimizer):
    schedule = Linear(warmup="16 samples")
    state = make_scheduler(make_optimizer(1.0), schedule, total_steps=4, samples_per_update=8).state_dict()
    with pytest.raises(ResumeError, match="samples_per_update: 8, now 16"):
        make_scheduler(make_optimizer(1.0), schedule, total_steps=4, samples_per_update=16).load_state_dict(state)


def test_keep_goes_on_with_the_old_one(make_optimizer):
    run = Resumed(make_optimizer)
    scheduler, _ = run.go_on("cosine", total_steps=20, peak=8.0, on_change="keep")
    assert scheduler.total_steps == 10
    assert run.rates(6) == pytest.approx([0.6, 0.5, 0.4, 0.3, 0.2, 0.1])


def test_extend_follows_the_new_one_as_if_from_the_start(make_optimizer):
    run = Resumed(make_optimizer)
    run.go_on(total_steps=20, peak=2.0, on_change="extend")
    assert run.rates(3) == pytest.approx([1.6, 1.5, 1.4])


def test_restart_runs_the_new_one_over_the_updates_left(make_optimizer):
    run = Resumed(make_optimizer)
    run.go_on(Linear(warmup=2), total_steps=8, on_change="restart")
    assert run.rates(5) == pytest.approx([0.0, 0.5, 1.0, 0.5, 0.0])


def test_branch_cools_down_from_the_old_rate_to_the_new_end(make_optimizer):
    run = Resumed(make_optimizer, "constant")
    run.go_on(Linear(floor=0.1), total_steps=8, on_change="branch")
    assert run.rates(5) == pytest.approx(
        [1.0, 0.1 + 0.9 * 0.5, 0.1 + 0.9 * (1 - 0.5**0.5), 0.1 + 0.9 * (1 - 0.75**0.5), 0.1]
    )


@pytest.mark.parametrize("policy", ["keep", "extend", "restart", "branch"])
def test_a_changed_run_is_resumed_again_without_a_change(make_optimizer, policy):
    changed = {"schedule": Linear(warmup=2), "total_steps": 12, "on_change": policy}
    straight, twice = Resumed(make_optimizer), Resumed(make_optimizer)
    straight.go_on(**changed)
    expected = straight.rates(6)
    twice.go_on(**changed)
    first = twice.rates(3)
    twice.go_on(**changed)
    assert first + twice.rates(3) == expected


@pytest.mark.parametrize("policy", ["restart", "branch"])
def test_a_horizon_already_passed_is_refused(make_optimizer, policy):
    with pytest.raises(ResumeError, match="the run of 3 updates ends before update 4"):
        Resumed(make_optimizer).go_on(total_steps=3, on_change=policy)


def test_an_unknown_policy_is_refused(make_optimizer):
    with pytest.raises(SettingError, match=r"^on_change:"):
        make_scheduler(make_optimizer(1.0), "linear", total_steps=4, on_change="ignore")


def test_a_cooldown_can_be_started_on_request_and_survives_a_resumption(make_optimizer):
    run = Resumed(make_optimizer, "constant", total_steps=100)
    assert run.scheduler.start_cooldown(4, shape="linear") == 8
    assert run.rates(2) == [1.0, 0.75]
    scheduler, _ = run.go_on("constant", total_steps=100)
    assert scheduler.total_steps == 8
    assert run.rates(4) == [0.5, 0.25, 0.0, 0.0]


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


def test_what_a_plateau_has_seen_is_saved(make_optimizer):
    schedule = Plateau(gamma=0.5, patience=1)
    run = Resumed(make_optimizer, schedule, at=2, total_steps=99)
    for loss in (1.0, 1.0, 1.0, 2.0):
        run.scheduler.observe(loss)
    scheduler, optimizer = run.go_on(schedule, total_steps=99)
    assert rates(optimizer) == [0.5]
    scheduler.observe(2.0)
    assert rates(optimizer) == [0.25]


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


def test_a_restarted_cycle_moves_the_momentum_anew():
    def make(**own):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
        return optimizer, make_scheduler(optimizer, OneCycle(warmup=2), **own)

    optimizer, scheduler = make(total_steps=10)
    advance(optimizer, scheduler, 4)
    again, resumed = make(total_steps=12, on_change="restart")
    resumed.load_state_dict(scheduler.state_dict())
    seen = []
    for _ in range(3):
        seen.append(again.param_groups[0]["momentum"])
        advance(again, resumed, 1)
    assert seen == pytest.approx([0.95, 0.9, 0.85])


def test_a_state_that_was_taken_does_not_change(make_optimizer):
    scheduler = make_scheduler(make_optimizer(1.0), Plateau(patience=0), total_steps=9)
    state = scheduler.state_dict()
    before = json.dumps(state)
    scheduler.observe(1.0)
    scheduler.observe(1.0)
    assert json.dumps(state) == before


def test_an_extended_plateau_remembers_what_it_has_seen(make_optimizer):
    run = Resumed(make_optimizer, Plateau(gamma=0.5, patience=0), total_steps=10)
    run.scheduler.observe(1.0)
    run.scheduler.observe(1.0)
    _, optimizer = run.go_on(Plateau(gamma=0.5, patience=0), total_steps=20, on_change="extend")
    assert rates(optimizer) == [0.5]


def test_one_cycle_is_refused_where_there_is_no_momentum_to_set():
    optimizer = torch.optim.Adagrad([torch.nn.Parameter(torch.zeros(1))])
    with pytest.raises(SettingError, match=r"^momentum: the optimizer has neither"):
        make_scheduler(optimizer, "one_cycle", total_steps=10)
    make_scheduler(optimizer, OneCycle(momentum=None), total_steps=10)


def named_groups(**peaks):
    return torch.optim.SGD(
        [{"name": name, "params": [torch.nn.Parameter(torch.zeros(1))], "lr": peak} for name, peak in peaks.items()]
    )


def test_a_group_may_have_a_schedule_or_a_floor_of_its_own():
    optimizer = named_groups(body=1.0, head=10.0, last=2.0)
    scheduler = make_scheduler(
        optimizer, Linear(warmup=2), total_steps=10, groups={"head": "constant", "last": {"floor": 0.5}}
    )
    advance(optimizer, scheduler, 6)
    assert rates(optimizer) == pytest.approx([0.5, 10.0, 1.5])


def test_an_absolute_floor_is_the_same_rate_in_groups_of_other_peaks():
    optimizer = named_groups(body=1.0, head=10.0)
    scheduler = make_scheduler(optimizer, Cosine(floor_rate=0.25), total_steps=10)
    advance(optimizer, scheduler, 10)
    assert rates(optimizer) == pytest.approx([0.25, 0.25])


def test_a_group_that_is_not_there_is_refused():
    with pytest.raises(SettingError, match=r'no parameter group is called "hed" \(did you mean head\?\)'):
        make_scheduler(named_groups(body=1.0, head=1.0), "linear", total_steps=10, groups={"hed": "constant"})


def late_head(schedule="linear", *, start=4, on_change="refuse", total_steps=10):
    optimizer = named_groups(body=1.0, head=10.0)
    return optimizer, make_scheduler(
        optimizer, schedule, total_steps=total_steps, starts={"head": start}, on_change=on_change
    )


def test_a_group_that_starts_late_is_at_0_and_then_where_it_would_be_anyway():
    optimizer, scheduler = late_head()
    seen = []
    for _ in range(10):
        seen.append(rates(optimizer))
        advance(optimizer, scheduler, 1)
    assert seen == [pytest.approx([1 - t / 10, 10 * (1 - t / 10) if t >= 4 else 0.0]) for t in range(10)]
    assert scheduler.starts == {"head": 4}


def test_a_cooldown_on_request_leaves_a_late_group_its_start():
    optimizer, scheduler = late_head("constant")
    advance(optimizer, scheduler, 2)
    scheduler.start_cooldown(4, shape="linear")
    seen = []
    for _ in range(4):
        seen.append(rates(optimizer))
        advance(optimizer, scheduler, 1)
    assert seen == [[1.0, 0.0], [0.75, 0.0], [0.5, 5.0], [0.25, 2.5]]


@pytest.mark.parametrize(("policy", "start"), [("keep", 4), ("extend", 6), ("restart", 6), ("branch", 6)])
def test_a_changed_start_is_refused_or_follows_the_policy(policy, start):
    optimizer, scheduler = late_head()
    advance(optimizer, scheduler, 3)
    state = json.loads(json.dumps(scheduler.state_dict()))
    with pytest.raises(ResumeError, match=r"first updates of groups: \{'head': 4\}, now \{'head': 6\}"):
        late_head(start=6)[1].load_state_dict(state)
    resumed, again = late_head(start=6, on_change=policy)
    again.load_state_dict(state)
    assert again.starts == {"head": start}
    advance(resumed, again, 2)
    assert (rates(resumed)[1] > 0) is (start <= 5)


def test_a_checkpoint_from_before_groups_could_start_late_is_resumed():
    optimizer = named_groups(body=1.0)
    scheduler = make_scheduler(optimizer, "linear", total_steps=10)
    advance(optimizer, scheduler, 3)
    state = scheduler.state_dict()
    del state["plan"]["starts"]
    resumed = named_groups(body=1.0)
    make_scheduler(resumed, "linear", total_steps=10).load_state_dict(state)
    assert rates(resumed) == pytest.approx([0.7])


def test_the_start_of_a_group_that_is_not_there_is_refused():
    with pytest.raises(SettingError, match=r'no parameter group is called "hed" \(did you mean head\?\)'):
        make_scheduler(named_groups(body=1.0, head=1.0), "linear", total_steps=10, starts={"hed": 4})


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
