"""The simulation of a study on many workers: what it says agrees with what can be reckoned on paper."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "scripts" / "bench"


@pytest.fixture
def makespan(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    before = set(sys.modules)
    import makespan

    yield makespan
    for name in set(sys.modules) - before:
        if name in ("makespan", "models"):
            del sys.modules[name]


@pytest.fixture
def groves(makespan):
    """Two groves of a trunk of 100 updates and two runs on from it, of 100 and of 300."""
    from finetune.study.groves import Grove
    from finetune.study.jobs import Job
    from finetune.study.trunks import Segment

    tree = (Segment(0, 100, (0, 1), None), Segment(100, 200, (0,), 0), Segment(100, 400, (1,), 0))
    jobs = [Job(0, None, None, f"run {number}") for number in range(4)]
    return [Grove(tuple(jobs[start : start + 2]), tree) for start in (0, 2)]


@pytest.fixture
def even(makespan):
    """Workers who all take a second for an update, none to begin, and never fail."""
    return makespan.World(seconds_per_update=1.0, spread=0.0, beginning=0.0, hours=None)


@pytest.mark.parametrize(
    ("workers", "seconds", "bound"),
    # 1,000 updates in all, 400 of them at a stretch. Two workers make a trunk each, then the long runs, then the short.
    [(1, 1000, "work over workers"), (2, 500, "work over workers"), (4, 400, "longest chain")],
)
def test_without_failures_a_study_takes_what_it_must(makespan, groves, even, workers, seconds, bound):
    found = makespan.simulate(groves, workers=workers, world=even, seed=0)
    assert (found["makespan_hours"], found["bound"]) == (round(seconds / 3600, 4), bound)
    assert (found["runs"], found["steps"], found["failures"], found["ratio"]) == (4, 6, 0, 1.0)


def test_what_fails_is_made_again_and_takes_longer(makespan, groves, even):
    failing = replace(even, hours=0.05, missed=10.0, repaired=60.0)
    found = [makespan.simulate(groves, workers=2, world=failing, seed=seed) for seed in range(20)]
    assert all(each["runs"] == 4 and each["ratio"] >= 1 for each in found)
    assert sum(each["failures"] for each in found) > 0
    assert all(each["ratio"] > 1 for each in found if each["failures"])


def test_no_worker_makes_two_steps_at_once(makespan):
    # Of three whole steps of 3, two fall to one of two workers; a half of all would be 4.5.
    assert makespan._bound_of_whole_steps([3.0, 3.0, 3.0], 2) == 6.0
    assert makespan._bound_of_whole_steps([5.0, 1.0, 4.0, 2.0], 4) == 0.0


@pytest.mark.slow
def test_a_real_plan_comes_near_the_ideal_where_each_worker_has_many_runs(makespan, tmp_path):
    from finetune.study.groves import plan_groves
    from finetune.training.material import Library

    if not makespan.TOKENIZER.exists():
        pytest.skip("the assets aren't there")
    library = Library()
    jobs = makespan.make_jobs(50, library, tmp_path)
    groves = plan_groves(jobs, library=library)
    assert (len(jobs), len(groves)) == (50, 10)
    found = makespan.simulate(groves, workers=3, world=makespan.World(), seed=0)
    assert found["runs"] == 50
    assert found["ratio"] < makespan.TARGET
