"""Two machines on one: each with its own network, where that is allowed, and a launcher of its own."""

import os
import socket
import subprocess
from dataclasses import dataclass

import pytest

from finetune.evaluation.record import read_history, read_record
from tests.faults import BIN, processes_of, wait_for_updates

pytestmark = pytest.mark.slow
SETTINGS = ("training.duration=60", "evaluation.every=null", "checkpoints.every=20")


@dataclass
class Machine:
    """What a command on it begins with, and its address."""

    prefix: tuple[str, ...]
    address: str


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def machines():
    """Two machines: network namespaces joined by a cable, or, where none can be made, two places for launchers."""
    names = [f"finetune{os.getpid()}{letter}" for letter in "ab"]
    cable = [f"ft{os.getpid()}{letter}" for letter in "ab"]
    made = [Machine(("ip", "netns", "exec", name), f"10.77.0.{number}") for number, name in enumerate(names, 1)]
    try:
        try:
            for name in names:
                ip("netns", "add", name)
            ip("link", "add", cable[0], "netns", names[0], "type", "veth", "peer", "name", cable[1], "netns", names[1])
            for name, end, machine in zip(names, cable, made, strict=True):
                ip("-n", name, "address", "add", f"{machine.address}/24", "dev", end)
                ip("-n", name, "link", "set", end, "up")
                ip("-n", name, "link", "set", "lo", "up")
        except (OSError, subprocess.CalledProcessError):
            made = [Machine((), "127.0.0.1")] * 2
        yield made
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def launch(machine, recipe, output, *options):
    """Launches a run on a machine; returns the launcher."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE_")}
    return subprocess.Popen(
        [*machine.prefix, str(BIN / "finetune"), "launch", str(recipe), *SETTINGS, f"output={output}", *options],
        env=environment | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        cwd=recipe.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def updates(run):
    """Returns the history of a run's updates, but for the seconds."""
    return [
        {key: value for key, value in row.items() if key != "seconds"} for row in read_history(run) if "rates" in row
    ]


def test_where_a_process_dies_both_machines_meet_again_and_the_run_is_as_if_nothing_had_been(
    machines, train, steady_model, small_recipe, tmp_path
):
    output, model = tmp_path / "on_two", f"model.path={steady_model}"
    place = f"{machines[0].address}:{free_port()}"
    several = ["--on", "cpu_2_processes", "--processes", "1", "--machines", "2", "--rendezvous", place]
    launchers = [
        launch(machine, small_recipe, output, model, *several, "--rank", str(rank), "--max-restarts", "1")
        for rank, machine in enumerate(machines)
    ]
    wait_for_updates(output, 30)
    (victim,) = processes_of(launchers[1])
    victim.kill()
    (run,) = [path.parent for path in output.rglob("recipe.yaml")]
    made_before = updates(run)
    texts = [launcher.communicate(timeout=480)[0] for launcher in launchers]
    assert [launcher.returncode for launcher in launchers] == [0, 0], texts
    assert "after update 20" in "".join(texts) or "after update 40" in "".join(texts), texts
    # What was made before, the restart from the checkpoint made again, bit for bit.
    made = updates(run)
    assert made[: len(made_before)] == made_before
    # And all of it is what one process makes, but for the order of additions.
    record, undisturbed = train(*SETTINGS, model)
    assert [row["rates"] for row in made] == [row["rates"] for row in updates(undisturbed)]
    assert [row["loss"] for row in made] == pytest.approx([row["loss"] for row in updates(undisturbed)], rel=1e-3)
    assert read_record(run).schedule == record.schedule
    assert read_record(run).identity == record.identity
