"""The torch adapter over named parameter groups: a schedule, a floor and a start of their own."""

import json

import pytest
import torch

from finetune.errors import ResumeError, SettingError
from finetune.schedules import Cosine, Linear, make_scheduler
from tests.schedules.stepping import advance, rates


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
