"""Faults put into runs as users launch them, and what became of the runs: killed at random, and checkpoints spoilt."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from safetensors.torch import load_file

from finetune.evaluation.record import MODEL, find_runs, read_history, read_record
from finetune.training.checkpoints import newest_checkpoint

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
SCRIPT = str(ROOT / "finetune" / "run.py")
ALONE = (sys.executable, SCRIPT)
TWO = (str(BIN / "torchrun"), "--standalone", "--nproc_per_node", "2", SCRIPT)
STUDY = (str(BIN / "finetune"), "study")
LAUNCHED = (str(BIN / "accelerate"), "launch", "--config_file", str(ROOT / "accelerate_configs/cpu.yaml"), SCRIPT)


@dataclass
class Faults:
    """How many faults were injected, after how many the run came to its end, was gone on with from less than its
    newest whole checkpoint, or ended differently."""

    injected: int = 0
    survived: int = 0
    lost: int = 0
    altered: int = 0


def start(command, recipe, output, *, every="null", updates=400):
    """Starts a run of `updates`, with a checkpoint `every` so many of them; returns the process of the command."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE_")}
    environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    settings = [
        f"training.duration={updates}",
        "evaluation.every=150",
        f"checkpoints.every={every}",
        "checkpoints.keep=2",
    ]
    return subprocess.Popen(
        [*command, str(recipe), *settings, f"output={output}"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_updates(output, count, *, process=None):
    """Waits until the one history under `output` has `count` lines more than when it was called, or `process` ended."""

    def lines():
        try:
            return sum(path.read_text().count("\n") for path in output.rglob("history.jsonl"))
        except FileNotFoundError:
            return 0

    until = time.monotonic() + 180
    before = lines()
    while time.monotonic() < until:
        if lines() >= before + count or (process is not None and process.poll() is not None):
            return
        time.sleep(0.02)
    raise AssertionError("the run made no updates")


def processes_of(command):
    """Returns the processes that run the recipe, under `command`."""
    children = psutil.Process(command.pid).children(recursive=True)
    return [child for child in children if SCRIPT in child.cmdline() and "launch" not in child.cmdline()]


def finish(command, recipe, output, **settings):
    """Runs to the end; returns the run's directory and what was printed."""
    process = start(command, recipe, output, **settings)
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    (run,) = find_runs([output])
    return run, text


def outcome(run):
    """Returns what must be equal of two runs: their results, weights, and history but for the seconds."""
    told = [{key: value for key, value in row.items() if key != "seconds"} for row in read_history(run)]
    return read_record(run).results, load_file(run / MODEL / "model.safetensors"), told


def assert_equal_outcomes(one, other):
    """Fails unless two outcomes are equal bit for bit."""
    assert one[0] == other[0]
    assert one[1].keys() == other[1].keys()
    assert all(torch.equal(one[1][name], other[1][name]) for name in one[1])
    assert one[2] == other[2]


def assert_equal_runs(one, other):
    """Fails unless the outcomes of the runs in two directories are equal."""
    assert_equal_outcomes(outcome(one), outcome(other))


def kill_at_random(command, recipe, folder, *, count, seed, numbers=(signal.SIGKILL, signal.SIGTERM)):
    """Kills runs of `command` at `count` random moments, goes on after each, and compares every run that ends."""
    draw, faults, chain = random.Random(seed), Faults(), 0
    whole, _ = finish(command, recipe, folder / "whole", every="20")
    while faults.injected < count:
        chain += 1
        _chain(command, recipe, folder / f"chain{chain}", whole, draw, faults, count, numbers)
    return faults


def _chain(command, recipe, output, whole, draw, faults, count, numbers):
    """One run, killed as often as it can be."""
    newest, mine = 0, 0
    while True:
        process = start(command, recipe, output, every="20")
        if faults.injected < count and mine < 8:
            wait_for_updates(output, draw.randint(0, 60), process=process)
            time.sleep(draw.random() * 0.2)
        else:
            process.wait(timeout=300)
        if process.poll() is None:
            faults.injected, mine = faults.injected + 1, mine + 1
            _signal(process, draw.choice(numbers), draw)
        text, _ = process.communicate(timeout=120)
        if re.search(r"^ +output ", text, re.MULTILINE):
            resumed = re.search(r"after update (\d+), from", text)
            faults.lost += newest > 0 and (resumed is None or int(resumed[1]) < newest)
        if process.returncode == 0:
            break
        newest = _newest(output)
    (run,) = find_runs([output])
    try:
        assert_equal_runs(run, whole)
        faults.survived += mine
    except AssertionError:
        faults.altered += mine
    shutil.rmtree(output)


def _signal(process, number, draw):
    """Sends to one of the processes of a run; a SIGKILL goes to all that are left, as when a machine goes."""
    ranks = processes_of(process) or [psutil.Process(process.pid)]
    told = [*ranks, psutil.Process(process.pid)] if number == signal.SIGKILL else [draw.choice(ranks)]
    for each in told:
        try:
            each.send_signal(number)
        except psutil.NoSuchProcess:
            continue


def _newest(output):
    runs = [path.parent for path in output.rglob("recipe.yaml")]
    found = newest_checkpoint(runs[0], say=lambda _: None) if runs else None
    return found.step if found else 0


def spoil_checkpoints(command, recipe, folder, *, count, seed):
    """Cuts or flips a bit of random files of the newest checkpoint; it must be passed over for the one before."""
    draw, faults = random.Random(seed), Faults()
    process = start(command, recipe, folder / "spoilt", every="20")
    wait_for_updates(folder / "spoilt", 110)
    _signal(process, signal.SIGKILL, draw)
    process.communicate(timeout=60)
    (recorded,) = (folder / "spoilt").rglob("recipe.yaml")
    run = recorded.parent
    newest = newest_checkpoint(run, say=print)
    for _ in range(count):
        path = draw.choice(sorted(newest.path.iterdir()))
        original = path.read_bytes()
        path.write_bytes(_cut(original, draw) if draw.random() < 0.5 else _flipped(original, draw))
        found = newest_checkpoint(run, say=lambda _: None)
        faults.injected += 1
        faults.altered += found is not None and found.step == newest.step
        faults.lost += found is None
        path.write_bytes(original)
    faults.survived = faults.injected - faults.altered - faults.lost
    return faults


def _cut(content, draw):
    return content[: draw.randrange(len(content))]


def _flipped(content, draw):
    place = draw.randrange(len(content))
    return content[:place] + bytes([content[place] ^ (1 << draw.randrange(8))]) + content[place + 1 :]


def show(rows):
    """Returns the table of faults by kind."""
    lines = [f"{'fault':<46}{'injected':>10}{'survived':>10}{'lost':>8}{'altered':>9}"]
    lines += [
        f"{name:<46}{each.injected:>10,}{each.survived:>10,}{each.lost:>8,}{each.altered:>9,}"
        for name, each in rows.items()
    ]
    return "\n".join(lines)


def to_json(rows):
    """Returns the table as JSON."""
    return json.dumps({name: vars(each) for name, each in rows.items()}, indent=2) + "\n"


def from_json(text):
    """Returns the table that `to_json` wrote."""
    return {name: Faults(**counts) for name, counts in json.loads(text).items()}
