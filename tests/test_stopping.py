"""Signals to runs as users launch them: to one rank, to all, to the launcher; they stop in good order and go on."""

import functools
import signal

import psutil
import pytest

from finetune.evaluation.record import find_runs, read_history
from tests.faults import (
    ALONE,
    LAUNCHED,
    STUDY,
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
    text, _ = process.communicate(timeout=180)
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
    text, _ = process.communicate(timeout=180)
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
    text, _ = process.communicate(timeout=180)
    assert "on the end of the process that started it; the same command goes on" in text
    psutil.wait_procs([child], timeout=60)
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


@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_dies_ends_the_run_soon_with_a_message_and_its_last_checkpoint(
    recipe, undisturbed, tmp_path, victim
):
    process = start(TWO, recipe, tmp_path / "stopped", every="10")
    wait_for_updates(tmp_path / "stopped", 30)
    ranks = processes_of(process)
    (chosen,) = [rank for rank in ranks if rank.environ()["RANK"] == str(victim)]
    chosen.kill()
    text, _ = process.communicate(timeout=180)
    assert process.returncode == 1
    assert "finetune: another process of the run is gone" in text
    assert "The same command runs from update" in text
    assert not any(rank.is_running() for rank in ranks)
    run, text = finish(TWO, recipe, tmp_path / "stopped")
    assert "after update" in text
    assert_equal_runs(run, undisturbed(TWO))


def test_a_worker_that_dies_ends_the_run_with_a_message_and_its_last_checkpoint(recipe, tmp_path):
    path = recipe.parent / "with_workers.yaml"
    path.write_text(f"base: {recipe.name}\ntraining: {{workers: 1}}\n", encoding="utf-8")
    process = start(ALONE, path, tmp_path / "stopped", every="10")
    wait_for_updates(tmp_path / "stopped", 30)
    for worker in psutil.Process(process.pid).children():
        worker.kill()
    text, _ = process.communicate(timeout=180)
    assert process.returncode == 1, text
    assert "finetune: a worker that prepares batches died" in text
    assert "training.workers=0 needs none\nThe same command runs from update" in text


@pytest.fixture(scope="module")
def study(recipe):
    """The path of a study of the recipe."""
    path = recipe.parent / "a_study.yaml"
    grid = "{schedule: [cosine, linear], training.seed: [0, 1]}"
    path.write_text(f"base: {recipe.name}\nstudy: {{grid: {grid}, keep_models: true}}\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("options", [(), ("--workers", "2")])
def test_a_study_that_is_told_to_stop_exits_with_75_and_goes_on_bit_for_bit(study, tmp_path, options):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    finish_study(start(STUDY, study, whole, updates=80))
    process = start((*STUDY, *options), study, stopped, updates=80)
    wait_for_updates(stopped, 30)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    text, _ = process.communicate(timeout=180)
    assert process.returncode == 75, text
    assert "the same command goes on from there" in text
    assert psutil.wait_procs(workers, timeout=60)[1] == []
    assert any(stopped.rglob("checkpoint-*"))
    finish_study(start((*STUDY, *options), study, stopped, updates=80))
    runs = list(find_runs([whole]))
    assert len(runs) == 4
    for run in runs:
        assert_equal_runs(stopped / run.relative_to(whole), run)


def finish_study(process):
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
