"""Signals to runs as users launch them: to one rank, to all, to the launcher; they stop in good order and go on."""

import functools
import signal

import psutil
import pytest

from finetune.evaluation.record import read_history
from tests.faults import (
    ALONE,
    LAUNCHED,
    TWO,
    Faults,
    assert_equal_runs,
    finish,
    kill_at_random,
    processes_of,
    spoil_checkpoints,
    start,
    wait_for_updates,
)
from tests.inject import prepare

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """The path of a recipe of the tiny model, whose runs all tests of this file disturb."""
    return prepare(tmp_path_factory.mktemp("recipe"))


@pytest.fixture(scope="module")
def undisturbed(recipe, tmp_path_factory):
    """A function that returns the directory of the run of a command that nothing disturbs."""
    return functools.cache(lambda command: finish(command, recipe, tmp_path_factory.mktemp("whole"))[0])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_told_to_stop_exits_with_75_and_goes_on_bit_for_bit(recipe, undisturbed, tmp_path, number):
    process = start(ALONE, recipe, tmp_path / "stopped")
    wait_for_updates(tmp_path / "stopped", 30)
    process.send_signal(number)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 75, text
    assert f"on {signal.Signals(number).name}; the same command goes on from there" in text
    run, text = finish(ALONE, recipe, tmp_path / "stopped")
    assert "after update" in text
    assert_equal_runs(run, undisturbed(ALONE))


@pytest.mark.parametrize("who", ["one rank", "all", "launcher"])
def test_two_processes_stop_after_the_same_update_and_go_on_bit_for_bit(recipe, undisturbed, tmp_path, who):
    process = start(TWO, recipe, tmp_path / "stopped")
    wait_for_updates(tmp_path / "stopped", 30)
    ranks = processes_of(process)
    assert len(ranks) == 2
    for told in {"one rank": ranks[1:], "all": ranks, "launcher": [psutil.Process(process.pid)]}[who]:
        told.send_signal(signal.SIGTERM)
    text, _ = process.communicate(timeout=90)
    assert process.returncode != 0
    assert not any(rank.is_running() for rank in ranks)
    assert text.count("the same command goes on from there") == 1, text
    run, text = finish(TWO, recipe, tmp_path / "stopped")
    assert "after update" in text
    assert_equal_runs(run, undisturbed(TWO))


def test_a_run_whose_launcher_was_killed_stops_in_good_order(recipe, tmp_path):
    process = start(LAUNCHED, recipe, tmp_path / "stopped")
    wait_for_updates(tmp_path / "stopped", 30)
    (child,) = processes_of(process)
    process.send_signal(signal.SIGKILL)
    text, _ = process.communicate(timeout=60)
    assert "on the end of the process that started it; the same command goes on" in text
    psutil.wait_procs([child], timeout=30)
    assert not child.is_running()
    run, text = finish(LAUNCHED, recipe, tmp_path / "stopped")
    assert "after update" in text
    assert sum("rates" in row for row in read_history(run)) == 400


def test_a_run_that_is_killed_at_random_moments_loses_nothing(recipe, tmp_path):
    faults = kill_at_random(ALONE, recipe, tmp_path, count=3, seed=0, numbers=(signal.SIGKILL,))
    assert faults == Faults(injected=3, survived=3, lost=0, altered=0)


def test_a_checkpoint_that_was_spoilt_is_never_taken_for_whole(recipe, tmp_path):
    faults = spoil_checkpoints(ALONE, recipe, tmp_path, count=60, seed=0)
    assert faults == Faults(injected=60, survived=60, lost=0, altered=0)
