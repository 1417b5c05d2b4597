"""The example scripts: the rates that their optimizers really used are those of the formula."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from torch.optim.optimizer import register_optimizer_step_pre_hook

from finetune.schedules import make_schedule

EXAMPLES = Path(__file__).parents[2] / "scripts" / "examples"
CONFIGS = Path(__file__).parents[2] / "accelerate_configs"

# What it needs, its schedule, its peak, and the length of its run in the steps of its scheduler.
CASES = {
    "pytorch_loop": ((), {"name": "cosine"}, 0.1, 100),
    "accelerate_loop": ((), {"name": "cosine", "warmup": "25%"}, 0.1, 12),
    "trainer": ((), {"name": "cosine", "warmup": "10%", "floor": 0.1}, 5e-3, 20),
    "lightning_loop": (("lightning",), {"name": "cosine", "warmup": "10%"}, 0.1, 20),
    "trl_sft": (("trl",), {"name": "wsd", "warmup": "10%", "cooldown": "20%"}, 2e-2, 20),
    "sentence_transformers_trainer": (("sentence_transformers",), {"name": "linear", "warmup": "20%"}, 5e-2, 20),
    "setfit_trainer": (("setfit",), {"name": "cosine", "warmup": "10%"}, 5e-2, 18),
}


def expected(name):
    _, schedule, peak, total = CASES[name]
    factor = make_schedule(**schedule).resolve(total_steps=total)
    return [peak * factor(t) for t in range(total)]


def main_of(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.main


def test_every_example_is_tested():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(CASES)


@pytest.fixture
def used():
    """The rate of the first group in each step of whatever optimizer."""
    rates = []
    hook = register_optimizer_step_pre_hook(lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]))
    yield rates
    hook.remove()


@pytest.mark.filterwarnings("default")  # of other libraries about each other
@pytest.mark.parametrize("name", CASES)
def test_the_optimizer_uses_the_rates_of_the_formula(name, used, monkeypatch, tmp_path):
    for library in CASES[name][0]:
        pytest.importorskip(library, reason=f"{library} is not installed: scripts/venv dev")
    monkeypatch.chdir(tmp_path)
    told = main_of(name)()
    steps_of_each = 4 if name == "pytorch_loop" else 1  # its scheduler steps once an epoch, of four batches
    assert told == pytest.approx(expected(name))
    assert used[::steps_of_each] == pytest.approx(expected(name))
    assert len(used) == steps_of_each * len(told)


def launched(processes):
    """The rates that accelerate_loop prints under Accelerate's launcher."""
    config = CONFIGS / ("cpu.yaml" if processes == 1 else "cpu_2_processes.yaml")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config)]
    done = subprocess.run(
        [*command, str(EXAMPLES / "accelerate_loop.py")],
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"on {processes} process" in done.stdout
    return [float(rate) for rate in re.findall(r"rate (\S+)  loss", done.stdout)]


def test_accelerates_loop_applies_the_same_rates_on_one_process_and_on_two():
    rates = launched(1)
    assert rates == launched(2)
    assert rates == pytest.approx(expected("accelerate_loop"), abs=1e-6)
