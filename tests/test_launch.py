"""The commands of the README as a user types them, under `accelerate launch`, on one process and on two."""

import json
import os
import shlex
import subprocess
import threading
import time

import pytest

from finetune.evaluation.record import find_runs, read_history, read_record
from tests.docs.pages import BIN, ROOT, lines

IN_THE_README = lines("README.md", "## A recipe", "accelerate launch ")

pytestmark = pytest.mark.slow


def launch(command, *, environment=None, cwd=ROOT):
    """Runs a shell-like command line with this environment's programs first on the path."""
    words = shlex.split(command)
    variables = {}
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        variables[name] = value
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("ACCELERATE_", "OMP_"))}
    return subprocess.run(
        words,
        cwd=cwd,
        env=clean
        | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "HF_HUB_OFFLINE": "1"}
        | variables
        | (environment or {}),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def launch_line(config):
    """Returns the launch line that a configuration's header gives."""
    header = (ROOT / "accelerate_configs" / f"{config}.yaml").read_text(encoding="utf-8")
    (line,) = [line.partition("Run:")[2].strip() for line in header.splitlines() if line.startswith("# Run:")]
    return line


def updates(run):
    return [row for row in read_history(run) if "rates" in row]


@pytest.fixture(scope="session")
def run_bert_sst2(hub_cache, tmp_path_factory):
    """Runs recipes/bert_sst2.yaml by a launch line against the prepared cache; returns its record and directory."""

    def run(line, *overrides):
        output = tmp_path_factory.mktemp("runs")
        done = launch(
            " ".join([line.replace("minilm_reviews", "bert_sst2"), f"output={output}", *overrides]),
            environment={"HF_HOME": str(hub_cache)},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "reducer.cpp" not in done.stderr  # each process's advice about settings of DDP
        (place,) = find_runs([output])
        return read_record(place), place, done.stdout

    return run


def test_bert_sst2_runs_word_for_word_as_the_readme_gives_it(run_bert_sst2):
    (line,) = IN_THE_README
    record, run, out = run_bert_sst2(line)
    assert record.status == "finished"
    assert record.identity.classes == ["negative", "positive"]
    assert record.identity.model.source == "google-bert/bert-base-uncased"
    assert record.identity.model.commit == "0123456789abcdef0123456789abcdef01234567"
    assert (record.schedule.updates_per_epoch, record.schedule.total_steps) == (7, 21)
    config = json.loads((run / "model" / "config.json").read_text())
    assert config["id2label"] == {"0": "negative", "1": "positive"}
    assert "bert_sst2: google-bert/bert-base-uncased on 200 train, 60 validation examples" in out


def test_two_processes_apply_the_rates_of_one(run_bert_sst2):
    one, one_run, _ = run_bert_sst2(launch_line("cpu"), "training.precision=fp32")
    two, two_run, out = run_bert_sst2(launch_line("cpu_2_processes"), "training.precision=fp32")
    assert (one.environment.processes, two.environment.processes) == (1, 2)
    assert two.schedule == one.schedule
    assert [row["rates"] for row in updates(two_run)] == [row["rates"] for row in updates(one_run)]
    assert two.identity == one.identity
    assert out.count("7 an epoch, 21 in all") == 1


def ask_for_a_cooldown(output):
    """Asks the run below `output` for a cooldown of 6 updates, as soon as there is one."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for recipe in output.glob("*/*/recipe.yaml"):
            main_arguments = ["cooldown", str(recipe.parent), "--duration", "6", "--shape", "linear"]
            subprocess.run([str(BIN / "finetune"), *main_arguments], check=True, capture_output=True)
            return
        time.sleep(0.05)


def test_a_cooldown_on_request_and_a_plateau_are_the_same_on_every_process(small_recipe, tmp_path):
    output = tmp_path / "runs"
    asking = threading.Thread(target=ask_for_a_cooldown, args=(output,))
    asking.start()
    line = launch_line("cpu_2_processes").replace("recipes/minilm_reviews.yaml", str(small_recipe))
    schedule = "{name: plateau, warmup: 0, patience: 0, threshold: 10.0, gamma: 0.5}"
    done = launch(f'{line} output={output} "schedule={schedule}" training.duration=5000 evaluation.every=4')
    asking.join()
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = find_runs([output])
    record = read_record(run)
    at = record.schedule.cooldown["at"]
    assert at % 10 == 0
    assert record.schedule.total_steps == at + 6
    rates = [5e-3 * 0.5 ** max(0, t // 4 - 1) for t in range(at)]
    rates += [5e-3 * 0.5 ** max(0, at // 4 - 1) * (1 - t / 6) for t in range(6)]
    assert record.schedule.groups[0].rates == pytest.approx(rates)


@pytest.mark.parametrize("config", ["cpu", "cpu_2_processes"])
def test_bad_input_gives_one_message(config, small_recipe):
    line = launch_line(config).replace("recipes/minilm_reviews.yaml", str(small_recipe))
    done = launch(f"{line} task.text=sentense")
    assert done.returncode != 0
    assert done.stderr.count("finetune: ") == 1
    assert 'has no column "sentense"' in done.stderr


def test_run_py_alone_exits_with_2(small_recipe):
    done = launch(f"python finetune/run.py {small_recipe} schedule=stp")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_finetune_run_is_the_same_as_run_py(small_recipe, tmp_path):
    for name, command in (("a", "finetune run"), ("b", "python finetune/run.py")):
        done = launch(f"{command} {small_recipe} output={tmp_path / name} training.duration=4")
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""
    (a,), (b,) = find_runs([tmp_path / "a"]), find_runs([tmp_path / "b"])
    assert a.name == b.name
    assert read_record(a).results == read_record(b).results
    assert read_record(a).schedule == read_record(b).schedule


def test_a_study_is_launched_on_two_processes_and_shares_updates_there_too(small_recipe, tmp_path):
    study = small_recipe.parent / "a_study.yaml"
    grid = "{schedule: [{name: cosine, warmup: 10}, {name: linear, warmup: 10}], training.seed: [0]}"
    study.write_text(f"base: {small_recipe.name}\nstudy: {{grid: {grid}}}\n", encoding="utf-8")
    line = launch_line("cpu_2_processes").replace("recipes/minilm_reviews.yaml", str(study))
    environment = {"OMP_NUM_THREADS": "1"}
    together = launch(f"{line} output={tmp_path / 'together'}", environment=environment)
    assert together.returncode == 0, together.stdout + together.stderr
    alone = line.replace(str(study), str(small_recipe))
    for schedule in ("cosine", "linear"):
        done = launch(
            f"{alone} schedule.name={schedule} schedule.warmup=10 name=alone output={tmp_path / 'alone'}",
            environment=environment,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    shared, apart = (
        {record.recipe["schedule"]["name"]: (record.results, record.continued) for record in map(read_record, runs)}
        for runs in (find_runs([tmp_path / "together"]), find_runs([tmp_path / "alone"]))
    )
    assert {name: results for name, (results, _) in shared.items()} == {
        name: results for name, (results, _) in apart.items()
    }
    assert {continued.step for _, continued in shared.values()} == {11}
