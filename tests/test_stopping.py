"""Signals to runs as users launch them: to one rank, to all, to the launcher; they stop in good order and go on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from finetune.evaluation.record import find_runs, read_history, read_record

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
SCRIPT = str(ROOT / "finetune" / "run.py")
ALONE = [sys.executable, SCRIPT]
LAUNCHED = [str(BIN / "accelerate"), "launch", "--config_file", str(ROOT / "accelerate_configs/cpu.yaml"), SCRIPT]
TWO = [str(BIN / "torchrun"), "--nproc_per_node", "2", "--master_port", "29611", SCRIPT]

pytestmark = pytest.mark.slow


def start(command, recipe, output):
    """Starts a run of some hundred updates; returns the process of the command."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE_")}
    environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    settings = ["training.duration=400", "evaluation.every=150", "checkpoints.every=null", f"output={output}"]
    return subprocess.Popen(
        [*command, str(recipe), *settings], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for_updates(output, count):
    """Waits until a history has `count` lines."""
    until = time.monotonic() + 180
    while time.monotonic() < until:
        histories = list(output.rglob("history.jsonl"))
        if histories and histories[0].read_text().count("\n") >= count:
            return
        time.sleep(0.02)
    raise AssertionError("the run made no updates")


def processes_of(command):
    """Returns the processes that run the recipe, under `command`."""
    children = psutil.Process(command.pid).children(recursive=True)
    return [child for child in children if SCRIPT in child.cmdline() and "launch" not in child.cmdline()]


def finish(command, recipe, output):
    process = start(command, recipe, output)
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    (run,) = find_runs([output])
    return run, text


def assert_equal_runs(one, other):
    assert read_record(one).results == read_record(other).results
    first, second = (load_file(run / "model" / "model.safetensors") for run in (one, other))
    assert all(torch.equal(first[name], second[name]) for name in first)
    told = [[{key: row[key] for key in row if key != "seconds"} for row in read_history(run)] for run in (one, other)]
    assert told[0] == told[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_told_to_stop_exits_with_75_and_goes_on_bit_for_bit(small_recipe, tmp_path, number):
    whole, _ = finish(ALONE, small_recipe, tmp_path / "whole")
    process = start(ALONE, small_recipe, tmp_path / "stopped")
    wait_for_updates(tmp_path / "stopped", 30)
    process.send_signal(number)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 75, text
    assert f"on {signal.Signals(number).name}; the same command goes on from there" in text
    run, text = finish(ALONE, small_recipe, tmp_path / "stopped")
    assert "after update" in text
    assert_equal_runs(run, whole)


@pytest.mark.parametrize("who", ["one rank", "all", "launcher"])
def test_two_processes_stop_after_the_same_update_and_go_on_bit_for_bit(small_recipe, tmp_path, who):
    whole, _ = finish(TWO, small_recipe, tmp_path / "whole")
    process = start(TWO, small_recipe, tmp_path / "stopped")
    wait_for_updates(tmp_path / "stopped", 30)
    ranks = processes_of(process)
    assert len(ranks) == 2
    for told in {"one rank": ranks[1:], "all": ranks, "launcher": [psutil.Process(process.pid)]}[who]:
        told.send_signal(signal.SIGTERM)
    text, _ = process.communicate(timeout=90)
    assert process.returncode != 0
    assert not any(rank.is_running() for rank in ranks)
    assert text.count("the same command goes on from there") == 1, text
    run, text = finish(TWO, small_recipe, tmp_path / "stopped")
    assert "after update" in text
    assert_equal_runs(run, whole)


def test_a_run_whose_launcher_was_killed_stops_in_good_order(small_recipe, tmp_path):
    process = start(LAUNCHED, small_recipe, tmp_path / "stopped")
    wait_for_updates(tmp_path / "stopped", 30)
    (child,) = processes_of(process)
    process.send_signal(signal.SIGKILL)
    text, _ = process.communicate(timeout=60)
    assert "on the end of the process that started it; the same command goes on" in text
    psutil.wait_procs([child], timeout=30)
    assert not child.is_running()
    run, text = finish(LAUNCHED, small_recipe, tmp_path / "stopped")
    assert "after update" in text
    assert sum("rates" in row for row in read_history(run)) == 400
