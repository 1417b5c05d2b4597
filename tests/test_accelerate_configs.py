"""The shipped Accelerate configurations, as Accelerate itself reads them."""

import argparse
import shlex
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "accelerate_configs").glob("*.yaml"))


def launch_arguments(path):
    """Returns what Accelerate makes of the launch line in the header of `path`."""
    (line,) = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("# Run:")]
    words = shlex.split(line.removeprefix("# Run:"))
    while "=" in words[0]:
        words.pop(0)
    assert words[:2] == ["accelerate", "launch"]
    return launch_command_parser().parse_args(words[2:])


def test_the_configurations_are_those_of_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert {path.stem for path in CONFIGS} == {"cpu", "cpu_2_processes", "single_gpu", "multi_gpu"}
    assert all(f"accelerate_configs/{path.name}" in readme for path in CONFIGS)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_accelerate_reads_it_and_knows_every_key(path):
    config = load_config_from_file(str(path))
    keys = yaml.safe_load(path.read_text(encoding="utf-8"))
    for key, value in keys.items():
        assert hasattr(config, key)
        read = getattr(config, key)
        assert str(getattr(read, "value", read)) == str(value)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_its_launch_line_names_itself_and_files_that_exist(path):
    arguments = launch_arguments(path)
    assert ROOT / arguments.config_file == path
    assert (ROOT / arguments.training_script).is_file()
    assert (ROOT / arguments.training_script_args[0]).is_file()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_leaves_the_precision_to_the_recipe(path):
    assert load_config_from_file(str(path)).mixed_precision == "no"


@pytest.mark.parametrize(
    ("name", "processes", "distributed", "on_cpu"),
    [
        ("cpu", 1, False, True),
        ("cpu_2_processes", 2, True, True),
        ("single_gpu", 1, False, False),
        ("multi_gpu", 2, True, False),
    ],
)
def test_the_launcher_takes_it_as_it_is_meant(monkeypatch, name, processes, distributed, on_cpu):
    monkeypatch.chdir(ROOT)
    arguments, _, _ = _validate_launch_command(launch_arguments(ROOT / "accelerate_configs" / f"{name}.yaml"))
    assert isinstance(arguments, argparse.Namespace)
    assert (arguments.num_processes, bool(arguments.multi_gpu), bool(arguments.use_cpu)) == (
        processes,
        distributed,
        on_cpu,
    )
