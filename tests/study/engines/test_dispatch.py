"""Steps of groves made by many at once: their order, what is made again, and how all of it is stopped."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from finetune.errors import RunStopped
from finetune.recipe import load_study
from finetune.study.engines.dispatch import Lost, Made, Trunk, dispatch
from finetune.study.groves import Grove, each_alone
from finetune.study.jobs import Done, final_jobs
from finetune.study.trunks import Segment

STUDY = """
study:
  grid:
    schedule: [cosine, linear, constant]
    training.seed: [0, 1, 2, 3]
"""
# To 10 all are one; then cosine leaves, and the others do at 20.
TREE = (
    Segment(0, 10, (0, 1, 2), None),
    Segment(10, 40, (0,), 0),
    Segment(10, 20, (1, 2), 0),
    Segment(20, 40, (1,), 2),
    Segment(20, 40, (2,), 2),
)


@pytest.fixture
def jobs(write_study):
    return list(final_jobs(load_study(write_study("dispatched", STUDY)), {}))


@pytest.fixture
def groves(jobs):
    """One for each of four seeds."""
    return [Grove(tuple(jobs[3 * seed : 3 * seed + 3]), TREE) for seed in range(4)]


@dataclass
class Hands:
    """A crew of `count`; at every wait the task ends that was begun first. `losses`: what befalls a step, by attempt."""

    count: int
    losses: dict = field(default_factory=dict)
    begun: list = field(default_factory=list)
    left: list = field(default_factory=list)
    called_off: list = field(default_factory=list)
    waits: int = 0

    def room(self):
        return self.count

    def begin(self, task):
        self.begun.append(task)
        return len(self.begun) - 1

    def wait(self, tickets, *, seconds):
        assert len(tickets) <= self.count
        self.waits += 1
        return [min(tickets)] if tickets else []

    def result(self, ticket):
        task = self.begun[ticket]
        losses = self.losses.get((task.place, task.number), ())
        if task.attempt <= len(losses):
            return losses[task.attempt - 1]
        folder = Path(f"{task.place}-{task.number}")
        trunk = Trunk(folder, task.step.until) if task.step.trunk else task.start
        return Made(tuple(Done(job, "finished") for job in task.step.ending), trunk)

    def call_off(self, tickets):
        self.called_off = list(tickets)

    def leave(self, grove):
        self.left.append(grove)


def made_by(crew, groves, *, find=lambda step: None, wants_to_stop=lambda: None, tell=lambda line: None):
    return list(dispatch(crew, groves, find=find, wants_to_stop=wants_to_stop, tell=tell))


def labels(done):
    return sorted(each.job.label for each in done)


def test_every_run_is_made_once_on_from_the_trunk_that_ends_where_it_begins(groves, jobs):
    crew = Hands(3)
    done = made_by(crew, groves)
    assert labels(done) == sorted(job.label for job in jobs)
    starts = {(task.place, task.number): task.start for task in crew.begun}
    assert len(starts) == len(crew.begun) == 4 * 5
    for place in range(4):
        assert starts[place, 0] is None
        assert starts[place, 1] == starts[place, 2] == Trunk(Path(f"{place}-0"), 10)
        assert starts[place, 3] == starts[place, 4] == Trunk(Path(f"{place}-2"), 20)
    assert sorted(map(id, crew.left)) == sorted(map(id, groves))


def test_a_trunk_comes_before_its_branches_and_these_before_the_next_grove(groves):
    crew = Hands(1)
    made_by(crew, groves)
    assert [(task.place, task.number) for task in crew.begun] == [(p, n) for p in range(4) for n in range(5)]


def test_branches_are_made_side_by_side(groves):
    crew = Hands(8)
    made_by(crew, groves[:1])
    assert sorted(task.number for task in crew.begun) == [0, 1, 2, 3, 4]
    # One wait for the trunk, and one for each of the four that were under way together.
    assert crew.waits == 5


def test_near_the_end_what_has_the_longest_way_to_go_comes_first(groves):
    # There are 360 updates, 40 at a stretch: for two it is near the end at 2 · 40, for five at 2 · 40 · 4. Of the first
    # grove's branches the second has as far to go as the first, and more after it.
    for count, first in ((2, 1), (5, 2)):
        crew = Hands(count)
        made_by(crew, groves)
        branches = [task.number for task in crew.begun if task.place == 0 and task.number in (1, 2)]
        assert branches[0] == first


def test_groves_with_longer_runs_come_first(jobs):
    short, long = (
        Grove(tuple(jobs[3 * n : 3 * n + 3]), (Segment(0, end, (0, 1, 2), None),)) for n, end in enumerate((10, 90))
    )
    crew = Hands(1)
    made_by(crew, [short, long])
    assert [task.step.until for task in crew.begun] == [90, 10]


def test_runs_apart_keep_their_order(jobs):
    assert [done.job for done in made_by(Hands(1), each_alone(jobs))] == jobs


def test_a_step_that_is_lost_is_made_again_from_where_it_began(groves, jobs):
    told = []
    crew = Hands(2, losses={(0, 0): [Lost("its machine was lost", 10)], (0, 3): [Lost("its worker died", 3)] * 2})
    done = made_by(crew, groves[:1], tell=told.append)
    assert [each.status for each in done] == ["finished"] * 3
    attempts = [(task.number, task.attempt, task.start) for task in crew.begun if task.number in (0, 3)]
    trunk = Trunk(Path("0-2"), 20)
    assert attempts == [(0, 1, None), (0, 2, None), (3, 1, trunk), (3, 2, trunk), (3, 3, trunk)]
    assert told == [
        "the first 10 updates of 3 runs: its machine was lost; it is made again",
        f"{jobs[1].label}: its worker died; it is made again",
        f"{jobs[1].label}: its worker died; it is made again",
    ]


def test_a_run_that_kills_its_worker_every_time_has_failed_and_the_others_go_on(groves):
    crew = Hands(2, losses={(0, 3): [Lost("its worker died", 3)] * 3})
    done = made_by(crew, groves[:1])
    assert sorted((each.status, each.problem) for each in done) == [
        ("failed", "its worker died, 3 times"),
        ("finished", ""),
        ("finished", ""),
    ]


def test_runs_whose_trunk_is_lost_for_good_begin_where_that_one_did(groves):
    crew = Hands(2, losses={(0, 2): [Lost("its worker died", 1)]})
    assert [each.status for each in made_by(crew, groves[:1])] == ["finished"] * 3
    assert {task.start for task in crew.begun if task.number in (3, 4)} == {Trunk(Path("0-0"), 10)}


def test_what_is_recorded_is_found_and_begun_by_none(groves):
    crew = Hands(2)
    recorded = [Done(job, "finished", found=True) for job in groves[0].jobs]
    done = made_by(crew, groves[:2], find=lambda step: recorded[:1] if step in groves[0].steps else None)
    assert {task.place for task in crew.begun} == {1}
    assert sum(each.found for each in done) == 5
    assert len(crew.left) == 2


def test_where_it_is_told_to_stop_all_that_is_under_way_is_called_off(groves):
    crew = Hands(3)
    with pytest.raises(RunStopped, match="SIGINT"):
        made_by(crew, groves, wants_to_stop=lambda: "SIGINT" if crew.waits == 2 else None)
    # Three roots were begun, and when the first was made one of what goes on from it.
    assert [(task.place, task.number) for task in crew.begun] == [(0, 0), (1, 0), (2, 0), (0, 1)]
    assert crew.called_off == [2, 3]


def test_who_takes_no_more_runs_has_those_under_way_called_off(groves):
    crew = Hands(3)
    runs = dispatch(crew, groves, find=lambda step: None, wants_to_stop=lambda: None, tell=lambda line: None)
    next(runs)
    runs.close()
    assert crew.called_off


def test_without_room_nothing_is_begun_and_a_stop_is_heard(groves):
    crew = Hands(0)
    with pytest.raises(RunStopped):
        made_by(crew, groves, wants_to_stop=lambda: "SIGTERM" if crew.waits == 3 else None)
    assert crew.begun == []
