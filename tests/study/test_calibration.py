"""How many runs are made at once where that is left to a calibration."""

import os

import pytest
import torch

from finetune.errors import RunError, SettingError
from finetune.recipe import load_recipe
from finetune.study import calibration
from finetune.study.calibration import calibrate, candidates, fastest, fitting, seconds_of_update
from finetune.training.material import Library


@pytest.mark.parametrize(
    ("speeds", "chosen"),
    [
        ({1: 4.0}, 1),
        ({1: 4.0, 2: 4.3}, 1),
        ({1: 4.0, 2: 4.5}, 2),
        ({1: 4.0, 2: 3.0, 4: 6.0, 8: 6.1}, 4),
    ],
)
def test_more_workers_are_chosen_where_they_are_a_tenth_faster(speeds, chosen):
    assert fastest(speeds) == chosen


def test_workers_on_a_cpu_are_powers_of_two_up_to_cores_and_runs():
    assert candidates(cores=1, runs=10) == [1]
    assert candidates(cores=2, runs=10) == [1, 2]
    assert candidates(cores=2, runs=1) == [1]
    assert candidates(cores=6, runs=5) in ([1, 2, 4], [1, 2])  # fewer where memory is short


@pytest.mark.parametrize(
    ("seconds", "busy", "memory", "free", "runs"),
    [
        (0.0127, 0.0025, 1e9, 100e9, 5),  # a small model leaves a large GPU idle
        (0.040, 0.033, 4e9, 100e9, 1),
        (0.0127, 0.0025, 40e9, 100e9, 2),  # memory for two
        (0.0127, 0.0025, 200e9, 100e9, 1),
        (0.1, 0.0, 0.0, 100e9, 8),
    ],
)
def test_a_gpu_takes_as_many_runs_as_its_time_and_its_memory_allow(seconds, busy, memory, free, runs):
    assert fitting(seconds=seconds, busy=busy, memory=memory, free=free) == runs


def test_the_first_updates_are_left_out_of_the_mean():
    rows = [{"rates": {}, "seconds": at} for at in (5.0, 9.0, 10.0, 11.0)] + [{"evaluation": {}, "seconds": 99.0}]
    assert seconds_of_update(rows, first=2) == 1.0


def test_calibration_leaves_nothing_changed(small_recipe):
    recipe, threads = load_recipe(small_recipe), torch.get_num_threads()
    before = sorted(small_recipe.parent.rglob("*"))
    workers, why = calibrate(recipe, runs=4, library=Library(keep_weights=True))
    assert workers in (1, 2, 4)
    assert "updates a second with 1" in why
    assert torch.get_num_threads() == threads
    assert sorted(small_recipe.parent.rglob("*")) == before


@pytest.mark.parametrize("runs", [0, 1])
def test_nothing_is_tried_where_there_is_no_choice(small_recipe, monkeypatch, runs):
    monkeypatch.setattr("finetune.study.calibration.train_trunk", None)
    assert calibrate(load_recipe(small_recipe), runs=runs, library=Library())[0] == 1


def test_a_run_that_diverges_at_once_cant_be_calibrated_by(small_recipe):
    recipe = load_recipe(small_recipe, ["optimizer={name: sgd, learning_rate: 1e30}", "schedule={name: constant}"])
    with pytest.raises(RunError, match="the first run diverges at once; give their number"):
        calibrate(recipe, runs=4, library=Library(keep_weights=True))


def test_what_is_no_number_of_workers_is_refused():
    from finetune.cli.studies import number_of_workers

    assert [number_of_workers(text) for text in ("3", "auto", None)] == [3, "auto", None]
    with pytest.raises(SettingError, match='workers: "many" is neither a whole number nor auto'):
        number_of_workers("many")


def test_a_gpu_is_asked_for_nothing_before_it_has_run_something(monkeypatch):
    """torch answers "Invalid device argument" about the memory of a device that the process hasn't used yet."""
    asked = []

    def trying(updates):
        asked.append("run")
        return [{"rates": {}, "seconds": 0.01 * update} for update in range(updates)]

    def busy(work):
        work()
        return 0.05

    monkeypatch.setattr(calibration, "busy_seconds", busy)
    for name, answer in (("mem_get_info", (10e9, 80e9)), ("max_memory_reserved", 1e9), ("device_count", 1)):
        monkeypatch.setattr(torch.cuda, name, lambda *_, name=name, answer=answer: asked.append(name) or answer)
    workers, why = calibration._for_gpu(torch.device("cuda"), 100, trying)
    assert asked[0] == "run"
    assert (workers, why) == (min(4, os.cpu_count()), "one run keeps a GPU busy for 25% of its time")
