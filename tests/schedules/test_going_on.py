"""The torch adapter after a stop: what a checkpoint brings back, and what becomes of it where the run has changed."""

import io
import json
from fractions import Fraction

import pytest
import torch

from finetune.errors import ResumeError, SettingError
from finetune.schedules import Cosine, Linear, OneCycle, Plateau, make_scheduler
from tests.schedules.stepping import advance, rates


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


def test_what_a_plateau_has_seen_is_saved(make_optimizer):
    schedule = Plateau(gamma=0.5, patience=1)
    run = Resumed(make_optimizer, schedule, at=2, total_steps=99)
    for loss in (1.0, 1.0, 1.0, 2.0):
        run.scheduler.observe(loss)
    scheduler, optimizer = run.go_on(schedule, total_steps=99)
    assert rates(optimizer) == [0.5]
    scheduler.observe(2.0)
    assert rates(optimizer) == [0.25]


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


def test_a_checkpoint_of_torchs_own_schedulers_can_be_resumed(make_optimizer):
    optimizer = make_optimizer(1.0)
    theirs = torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=9)
    advance(optimizer, theirs, 3)
    resumed_optimizer = make_optimizer(1.0)
    make_scheduler(resumed_optimizer, "linear", total_steps=4).load_state_dict(theirs.state_dict())
    assert rates(resumed_optimizer) == [0.25]
