"""The launch lines of the README and of docs/launching.md; those of Slurm are in test_slurm.py."""

from pathlib import Path

import pytest

from finetune import launching
from finetune.launching import Launch
from tests.docs.pages import ROOT, called, lines

ON_GPUS = lines("README.md", "## Several processes and GPUs")
ON_TWO_MACHINES = lines("docs/launching.md", "## Several machines")
(SYNOPSIS,) = lines("docs/launching.md", start="finetune launch RECIPE [")


@pytest.fixture
def launched(monkeypatch, small_recipe):
    """A function that gives a command where there are 8 GPUs and other machines answer; returns what would be run."""
    monkeypatch.chdir(small_recipe.parent)
    Path("recipes").symlink_to(ROOT / "recipes")
    ran = []
    monkeypatch.setattr(launching, "visible_gpus", lambda: 8)
    monkeypatch.setattr(launching, "check_rendezvous", lambda nodes: None)
    monkeypatch.setattr(launching, "run_launch", lambda command: ran.append(command) or 0)

    def give(line) -> Launch:
        assert called(line.replace("RECIPE", "small.yaml")) == 0
        return ran.pop()

    return give


def test_a_recipe_is_launched_as_the_readme_says(launched, capsys):
    for line, config, parts in zip(
        ON_GPUS,
        ("multi_gpu", "fsdp2", "multi_node"),
        (["--num_processes 8"], ["--num_processes 8"], ["--machine_rank 0", "--max_restarts 3", "--num_machines 2"]),
        strict=True,
    ):
        command = launched(line)
        told = capsys.readouterr().out
        assert told == f"{command}\n"
        assert f"accelerate_configs/{config}.yaml" in told
        assert all(part in told for part in parts), told


def test_each_of_two_machines_has_its_number_as_the_page_says(launched):
    first, second = (str(launched(line)) for line in ON_TWO_MACHINES)
    assert "--machine_rank 0 " in first
    assert second == first.replace("--machine_rank 0", "--machine_rank 1").replace("is_host=true", "is_host=false")


def test_what_the_synopsis_names_is_taken(launched):
    given = {"MODE": "cpu_2_processes", "N": "3", "KEY=VALUE": "schedule=step"}
    line = SYNOPSIS.replace("...", "").replace("[", "").replace("]", "")
    for name, value in given.items():
        line = line.replace(f" {name}", f" {value}")
    told = str(launched(line))
    assert "--num_processes 3" in told
    assert told.endswith("small.yaml schedule=step")
