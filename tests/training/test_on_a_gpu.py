"""Runs on a GPU."""

import subprocess
import sys

import pytest
import torch

from finetune.errors import DeviceError, RunError, RunStopped
from finetune.evaluation.record import read_history
from finetune.training.graphs import GraphedForward

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is visible")

ALONE = ("evaluation.every=null", "checkpoints.every=null")
BRIEF = ("training.duration=24", *ALONE)
BY_EIGHTS = ("training.duration=24", "evaluation.every=8", "checkpoints.every=8")


@pytest.fixture(autouse=True)
def on_the_gpu(monkeypatch):
    monkeypatch.delenv("ACCELERATE_USE_CPU")


@pytest.fixture
def lossy(train):
    """A function that runs the small recipe, under a name, with settings; returns its record and its losses."""

    def run(name, *settings):
        record, directory = train(*settings, f"name={name}")
        rows = [row for row in read_history(directory) if "rates" in row]
        return record, [row["loss"] for row in rows]

    return run


@pytest.fixture
def steady(steady_model):
    return (*BRIEF, f"model.path={steady_model}")


def test_auto_is_bf16_and_follows_a_run_in_fp32_on_the_cpu(lossy, steady, monkeypatch):
    record, on_gpu = lossy("gpu", *steady, "training.precision=auto")
    assert record.environment.precision == "bf16"
    assert torch.cuda.get_device_name() in record.environment.model_dump_json()
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    _, on_cpu = lossy("cpu", *steady)
    assert on_gpu == pytest.approx(on_cpu, abs=0.05)


@pytest.mark.parametrize("settings", ["precision=fp32", "precision=bf16", "precision=fp16", "cuda_graphs=true"])
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(lossy, stop_in, settings):
    settings = (*BY_EIGHTS, f"training.{settings}")
    _, whole = lossy("whole", *settings)
    stop_in("training_step", lambda trainer: trainer.state.global_step == 11)
    with pytest.raises(RunStopped):
        lossy("parts", *settings)
    _, parts = lossy("parts", *settings)
    assert parts == pytest.approx(whole, abs=1e-3)


def test_fp16_leaves_out_updates_that_overflow_and_the_schedule_waits(train):
    record, run = train(*BRIEF, "training.precision=fp16", "schedule={name: linear, warmup: 0}")
    rows = [row for row in read_history(run) if "rates" in row]
    made = [row for row in rows if not row.get("skipped")]
    assert record.status == "finished"
    assert record.non_finite.skipped == len(rows) - len(made)
    for number, row in enumerate(made):
        assert row["rates"]["decay"] == pytest.approx(5e-3 * (1 - number / 24))


def test_memory_that_runs_out_is_named_or_met_by_halves(lossy):
    hungry = (*ALONE, "training.batch_size=200", "training.duration=3")
    lossy("plenty", *hungry)
    torch.cuda.empty_cache()
    properties = torch.cuda.get_device_properties(0)
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 30e6) / properties.total_memory)
    try:
        with pytest.raises(RunError, match="out of memory on cuda:0, in update 1, by a micro-batch of 200 examples"):
            lossy("stopped", *hungry)
        torch.cuda.empty_cache()
        record, halved = lossy("halved", *hungry, "training.on_out_of_memory=halve")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert (record.status, len(halved)) == ("finished", 3)


def test_graphs_follow_kernels_launched_one_by_one(lossy, steady, monkeypatch):
    captured, original = [], GraphedForward._captured

    def note(self, inputs):
        captured.append({name: tuple(tensor.shape) for name, tensor in inputs.items()})
        return original(self, inputs)

    monkeypatch.setattr(GraphedForward, "_captured", note)
    _, plain = lossy("plain", *steady)
    _, graphed = lossy("graphed", *steady, "training.cuda_graphs=true")
    assert 1 < len(captured) < 12
    assert graphed == pytest.approx(plain, abs=2e-3)


def test_graphs_draw_the_numbers_of_dropout_that_kernels_launched_one_by_one_draw(lossy):
    _, plain = lossy("plain", *BRIEF)
    _, graphed = lossy("graphed", *BRIEF, "training.cuda_graphs=true")
    assert graphed == pytest.approx(plain, abs=2e-3)


@pytest.mark.filterwarnings("ignore")
def test_compiled_blocks_follow_the_model(lossy, steady):
    _, plain = lossy("plain", *steady)
    _, compiled = lossy("compiled", *steady, "training.compile=true")
    assert compiled == pytest.approx(plain, abs=2e-3)


def test_a_study_finds_the_number_of_its_workers_in_a_process_that_has_not_met_the_gpu(small_recipe):
    settings = ["training.duration=50", *ALONE, "study={grid: {training.seed: [0, 1, 2, 3]}}"]
    words = ["study", str(small_recipe), *settings, f"output={small_recipe.parent / 'runs'}", "--workers", "auto"]
    script = "import sys; from finetune.cli import main; main(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", script, *words], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "keeps a GPU busy for" in done.stdout


def test_a_gpu_is_for_one_process(train, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", str(torch.cuda.device_count()))
    with pytest.raises(DeviceError, match="each needs one of its own"):
        train(*BRIEF)
