"""The example scripts: the rates that their optimizers really used are those of the formula."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from finetune.errors import SettingError
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


@pytest.mark.filterwarnings("default")  # of other libraries about each other
@pytest.mark.parametrize("name", CASES)
def test_the_optimizer_uses_the_rates_of_the_formula(name, rates_used, monkeypatch, tmp_path):
    for library in CASES[name][0]:
        pytest.importorskip(library, reason=f"{library} is not installed: scripts/venv dev")
    monkeypatch.chdir(tmp_path)
    told = main_of(name)()
    steps_of_each = 4 if name == "pytorch_loop" else 1  # its scheduler steps once an epoch, of four batches
    assert told == pytest.approx(expected(name))
    assert rates_used[::steps_of_each] == pytest.approx(expected(name))
    assert len(rates_used) == steps_of_each * len(told)


# Runs the script given and, as the interpreter ends, writes the rates that the optimizer of this process used.
WATCHED = """
import json, os, runpy, sys
from pathlib import Path
from torch.optim.optimizer import register_optimizer_step_pre_hook

script, folder = sys.argv[1:]
rates = []
register_optimizer_step_pre_hook(lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]))
runpy.run_path(script, run_name="__main__")
Path(folder, os.environ.get("RANK", "0") + ".json").write_text(json.dumps(rates))
"""


def launched(processes, folder):
    """The rates that each process's optimizer used, and the losses printed, under Accelerate's launcher."""
    folder = folder / str(processes)
    folder.mkdir()
    watched = folder / "watched.py"
    watched.write_text(WATCHED)
    config = CONFIGS / ("cpu.yaml" if processes == 1 else "cpu_2_processes.yaml")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config)]
    done = subprocess.run(
        [*command, str(watched), str(EXAMPLES / "accelerate_loop.py"), str(folder)],
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"on {processes} process" in done.stdout
    rates = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(processes)]
    return rates, [float(loss) for loss in re.findall(r"loss (\S+)", done.stdout)]


def test_accelerates_loop_applies_the_same_rates_on_one_process_and_on_each_of_two(tmp_path):
    one, losses = launched(1, tmp_path)
    two, losses_of_two = launched(2, tmp_path)
    assert one == [pytest.approx(expected("accelerate_loop"))]
    assert two == one * 2
    assert losses_of_two == pytest.approx(losses, abs=2e-4)
    assert len(losses) == 12


@pytest.fixture
def setfit_example():
    pytest.importorskip("setfit", reason="setfit is not installed: scripts/venv dev")
    return sys.modules[main_of("setfit_trainer").__module__]


@pytest.mark.filterwarnings("default")  # of other libraries about each other
def test_setfits_own_warmup_is_refused_beside_a_schedule(setfit_example, tmp_path):
    arguments = setfit_example.TrainingArguments(output_dir=str(tmp_path), report_to="none")  # a tenth, by default
    with pytest.raises(SettingError, match="warmup_steps"):
        setfit_example.ScheduledSetFitTrainer(model=setfit_example.make_model(), args=arguments, schedule="cosine")


@pytest.mark.filterwarnings("default")
def test_setfits_trainer_keeps_the_callbacks_it_is_given_and_its_own(setfit_example, tmp_path):
    mine = setfit_example.TrainerCallback()
    arguments = setfit_example.TrainingArguments(output_dir=str(tmp_path), report_to="none", warmup_proportion=0.0)
    trainer = setfit_example.ScheduledSetFitTrainer(
        model=setfit_example.make_model(), args=arguments, schedule="cosine", callbacks=[mine]
    )
    kept = trainer.st_trainer.callback_handler.callbacks
    assert mine in kept
    assert any(isinstance(callback, setfit_example.ModelCardCallback) for callback in kept)
