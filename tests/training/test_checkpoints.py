"""Checkpoints that are whole or passed over, and runs that go on from them bit for bit."""

import io
import itertools
import json
import os
import resource
import signal

import numpy as np
import pytest
import torch

from finetune.errors import RecordError, RunStopped
from finetune.evaluation.record import RECORD, read_record
from finetune.training.checkpoints import newest_checkpoint
from finetune.training.plain_state import read_state, write_state
from finetune.training.trainer import ScheduledTrainer
from finetune.training.whole_folders import MANIFEST, fault_of, seal, write_whole
from tests.faults import assert_equal_outcomes, outcome

OFTEN = ("training.duration=20", "checkpoints.every=5", "checkpoints.keep=2", "evaluation.every=4")


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other) and one.dtype == other.dtype
    if isinstance(one, np.ndarray):
        return bool((one == other).all()) and one.dtype == other.dtype
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return one == other and type(one) is type(other)


def test_state_comes_back_as_it_was(tmp_path):
    parameter = torch.nn.Parameter(torch.randn(3, 2))
    optimizer = torch.optim.AdamW([parameter], lr=0.1)
    parameter.sum().backward()
    optimizer.step()
    state = {
        "optimizer": optimizer.state_dict(),
        "numpy": ("MT19937", np.arange(5, dtype=np.uint32), 3, 0, 0.5),
        "plain": [None, True, 1, 2.5, float("inf"), "ä", (1, (2,))],
        7: torch.tensor(3.0, dtype=torch.bfloat16),
    }
    write_state(tmp_path, "state", state)
    assert same(read_state(tmp_path, "state"), state)


def test_what_is_not_plain_is_not_written(tmp_path):
    with pytest.raises(TypeError, match="object is neither a plain value nor a tensor"):
        write_state(tmp_path, "state", {"a": object()})


@pytest.fixture
def sealed(tmp_path):
    folder = tmp_path / "sealed"
    folder.mkdir()
    (folder / "a.bin").write_bytes(bytes(range(100)))
    (folder / "b.txt").write_text("")
    seal(folder)
    assert fault_of(folder) is None
    return folder


def flip(path, place=-1):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda folder: (folder / "a.bin").write_bytes(bytes(range(60))), "a.bin has 60 bytes in place of 100"),
        (lambda folder: flip(folder / "a.bin", 50), "a.bin was altered"),
        (lambda folder: (folder / "b.txt").unlink(), "b.txt is missing"),
        (lambda folder: (folder / "c").touch(), f"c isn't in its {MANIFEST}"),
        (lambda folder: (folder / MANIFEST).unlink(), f"it has no {MANIFEST}: it wasn't written to its end"),
        (lambda folder: (folder / MANIFEST).write_text("{"), f"its {MANIFEST} can't be read"),
        (lambda folder: (folder / MANIFEST).write_text("[]"), f"its {MANIFEST} can't be read"),
        (lambda folder: (folder / MANIFEST).write_text('{"format": 2}'), f"its {MANIFEST} can't be read"),
    ],
)
def test_what_is_wrong_with_a_folder_is_told(sealed, damage, fault):
    damage(sealed)
    assert fault_of(sealed).startswith(fault)


def test_a_symbolic_link_is_no_file_of_a_whole_folder(sealed, tmp_path):
    (sealed / "a.bin").rename(tmp_path / "elsewhere")
    (sealed / "a.bin").symlink_to(tmp_path / "elsewhere")
    assert fault_of(sealed) == "a.bin is a symbolic link"


@pytest.mark.parametrize("name", ["a.bin", MANIFEST])
def test_every_single_flipped_bit_of_a_file_is_noticed(sealed, name):
    original = (sealed / name).read_bytes()
    for place in range(len(original)):
        flip(sealed / name, place)
        assert fault_of(sealed) is not None
        (sealed / name).write_bytes(original)
    assert fault_of(sealed) is None


def test_a_write_that_fails_leaves_the_old_folder_whole_and_nothing_else(sealed):
    def fill_up(aside):
        (aside / "part").write_bytes(b"x")
        raise OSError(28, "No space left on device")

    with pytest.raises(RecordError, match=r"sealed: can't be written: No space left on device; make room"):
        write_whole(sealed, fill_up)
    assert fault_of(sealed) is None
    assert [path.name for path in sealed.parent.iterdir()] == ["sealed"]


def assert_equal_runs(run, record, expected):
    assert record == read_record(run)
    assert_equal_outcomes(outcome(run), expected)
    assert not (run / "checkpoints").exists()


@pytest.fixture
def undisturbed(train):
    """A function that makes the run that nothing disturbs, and clears it away."""

    def make(*overrides):
        _, run = train(*overrides)
        expected = outcome(run)
        (run / RECORD).unlink()
        return expected

    return make


@pytest.fixture
def stop_at(monkeypatch):
    """A function that has a signal sent to this process in the middle of the update after `step`, once."""
    original = ScheduledTrainer.training_step

    def arm(step, number=signal.SIGTERM, times=1):
        left = [times]

        def training_step(self, *args, **kwargs):
            if self.state.global_step == step and left[0]:
                left[0] -= 1
                os.kill(os.getpid(), number)
            return original(self, *args, **kwargs)

        monkeypatch.setattr(ScheduledTrainer, "training_step", training_step)

    return arm


@pytest.mark.slow
@pytest.mark.parametrize("step", [0, 3, 6, 12, 18])
def test_a_run_stopped_at_any_update_goes_on_bit_for_bit(train, undisturbed, stop_at, step):
    overrides = ("training.duration=20", "training.micro_batch_size=6", "evaluation.every=4", "checkpoints.every=null")
    expected = undisturbed(*overrides)
    stop_at(step)
    with pytest.raises(RunStopped, match=rf"stopped after update {step + 1}, on SIGTERM; the same command goes on"):
        train(*overrides)
    out = io.StringIO()
    record, run = train(*overrides, out=out)
    assert f"after update {step + 1}" in out.getvalue()
    assert_equal_runs(run, record, expected)


@pytest.mark.slow
def test_a_signal_in_the_last_update_leaves_the_evaluations_to_be_made(train, undisturbed, stop_at):
    expected = undisturbed(*OFTEN)
    stop_at(19)
    with pytest.raises(RunStopped, match="stopped after update 20, on SIGTERM"):
        train(*OFTEN)
    record, run = train(*OFTEN)
    assert_equal_runs(run, record, expected)


@pytest.mark.slow
def test_a_second_interrupt_stops_at_once(train, stop_at):
    stop_at(7, signal.SIGINT, times=2)
    with pytest.raises(KeyboardInterrupt):
        train(*OFTEN, "training.micro_batch_size=8")  # two micro-batches, and a signal in each


@pytest.fixture
def crashed(train, undisturbed, small_recipe, monkeypatch):
    """What the undisturbed run came to, and the directory of one that died in update 13, with checkpoints 5 and 10."""
    expected = undisturbed(*OFTEN)
    original = ScheduledTrainer.training_step

    def training_step(self, *args, **kwargs):
        if self.state.global_step == 12:
            raise ZeroDivisionError
        return original(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(ScheduledTrainer, "training_step", training_step)
        with pytest.raises(ZeroDivisionError):
            train(*OFTEN)
    (newest,) = (small_recipe.parent / "runs").rglob("checkpoint-10")
    return expected, newest.parents[1]


def test_a_checkpoint_holds_no_pickle(crashed):
    _, run = crashed
    files = [path for path in (run / "checkpoints").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".txt"}
    assert {path.name for path in (run / "checkpoints").iterdir()} >= {"checkpoint-5", "checkpoint-10"}


def test_only_models_that_may_be_kept_stay(crashed):
    _, run = crashed
    kept = {path.name for path in (run / "checkpoints").glob("model-*")}
    facts = [
        json.loads((run / "checkpoints" / f"checkpoint-{step}" / MANIFEST).read_text())["facts"] for step in (5, 10)
    ]
    assert {f"model-{each['kept_step']}" for each in facts} <= kept
    assert len(kept) <= 3


FILES = ["model.safetensors", "config.json", "training.json", "training.safetensors", "trainer_state.json", MANIFEST]


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.slow
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(crashed):
    _, run = crashed
    newest = run / "checkpoints" / "checkpoint-10"
    assert sorted(path.name for path in newest.iterdir()) == sorted(FILES)
    for name, damage in itertools.product(FILES, (cut, flip, os.unlink)):
        original = (newest / name).read_bytes()
        damage(newest / name)
        said = []
        assert newest_checkpoint(run, say=said.append).step == 5
        assert [line.partition(": passed over: ")[0] for line in said] == [str(newest)]
        assert name in said[0]
        (newest / name).write_bytes(original)
    assert newest_checkpoint(run, say=print).step == 10


@pytest.mark.slow
@pytest.mark.parametrize("damaged", [(), ("checkpoint-10",), ("checkpoint-10", "checkpoint-5")])
def test_a_run_goes_on_from_what_is_whole_bit_for_bit(crashed, train, damaged):
    expected, run = crashed
    for name in damaged:
        cut(run / "checkpoints" / name / "training.safetensors")
    out = io.StringIO()
    record, _ = train(*OFTEN, out=out)
    assert out.getvalue().replace("\n", "").count("passed over: training.safetensors has") == len(damaged)
    assert ("after update" in out.getvalue()) == (len(damaged) < 2)
    assert_equal_runs(run, record, expected)


@pytest.mark.slow
def test_a_checkpoint_counts_only_with_its_model_and_its_history(crashed):
    _, run = crashed
    history = (run / "history.jsonl").read_text().splitlines(keepends=True)
    said = []
    (run / "history.jsonl").write_text("".join(history[:9]) + history[9][:20])
    assert newest_checkpoint(run, say=said.append).step == 5
    assert "history.jsonl lacks updates before it" in said[0]
    for model in (run / "checkpoints").glob("model-*"):
        flip(model / "model.safetensors")
    assert newest_checkpoint(run, say=said.append) is None
    assert "which it keeps: model.safetensors was altered" in said[-1]


@pytest.mark.slow
def test_a_file_that_can_not_grow_stops_the_run_and_the_next_one_goes_on(train, undisturbed, small_recipe):
    expected = undisturbed(*OFTEN)
    (run,) = {path.parent for path in (small_recipe.parent / "runs").rglob("recipe.yaml")}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    original = ScheduledTrainer.training_step

    def training_step(self, *args, **kwargs):
        if self.state.global_step == 6:
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
        return original(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScheduledTrainer, "training_step", training_step)
        with pytest.raises(RecordError, match=r"can't be written: .*; make room"):
            train(*OFTEN)
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert newest_checkpoint(run, say=print).step == 5
    record, _ = train(*OFTEN)
    assert_equal_runs(run, record, expected)
