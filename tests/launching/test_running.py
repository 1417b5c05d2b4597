"""The launcher: the run's exit code comes back, and signals reach its processes; with small programs in place of runs."""

import os
import signal
import socket
import time
from pathlib import Path

import pytest
import torch
from torch.distributed.elastic.rendezvous.api import RendezvousConnectionError

from finetune.errors import DeviceError, RunError, RunStopped
from finetune.launching import Nodes, check_rendezvous, located, run_launch
from finetune.launching.command import Launch
from finetune.launching.exit_codes import exit_code_of_run
from finetune.launching.nodes import Endpoint
from finetune.shipped import shipped_configs

ROOT = Path(__file__).parents[2]
PROGRAM = """
import os, signal, sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from finetune.launching.exit_codes import told_to_launcher

rank, attempt = (int(os.environ.get(name, "0")) for name in ("RANK", "TORCHELASTIC_RESTART_COUNT"))

def wait_for_all():
    here = Path({here!r})
    (here / f"started-{{attempt}}-{{rank}}").touch()
    while len(list(here.glob(f"started-{{attempt}}-*"))) < int(os.environ.get("WORLD_SIZE", "1")):
        time.sleep(0.01)

def stopped(number, frame):
    time.sleep(0.3)  # saves a checkpoint
    sys.exit(75)

with told_to_launcher():
    signal.signal(signal.SIGTERM, stopped)
{body}
"""
TELLS_ITS_LAUNCHER = """
    wait_for_all()
    if rank == 0:
        os.kill(os.getppid(), signal.{name})
    time.sleep(120)
"""


@pytest.fixture
def launch(tmp_path, monkeypatch):
    """A function that launches a program, by its body, as a mode does; returns the exit code of the run."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def run(body, *, on="cpu_2_processes", options=()):
        script = tmp_path / "program.py"
        script.write_text(PROGRAM.format(root=str(ROOT), here=str(tmp_path), body=body), encoding="utf-8")
        words = ("accelerate", "launch", "--config_file", str(shipped_configs()[on]), *options, str(script))
        restarts = 1 if "--max_restarts" in options else 0
        return run_launch(Launch(words, {"ACCELERATE_USE_CPU": "true"}, Nodes(max_restarts=restarts)))

    return run


@pytest.fixture(autouse=True)
def _nothing_is_left_changed():
    """Fails where a launch leaves signals or the environment other than they were."""
    watched = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1]

    def state():
        variables = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
        return [signal.getsignal(number) for number in watched], variables

    before = state()
    yield
    assert state() == before


@pytest.mark.parametrize("on", ["cpu", "cpu_2_processes"])
@pytest.mark.parametrize("code", [0, 1, 2, 75])
def test_the_exit_code_is_that_of_the_run(launch, on, code):
    assert launch(f"    sys.exit({code})", on=on) == code


@pytest.mark.parametrize("on", ["cpu", "cpu_2_processes"])
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_a_signal_to_the_launcher_stops_all_in_good_order(launch, on, name):
    began = time.monotonic()
    assert launch(TELLS_ITS_LAUNCHER.format(name=name), on=on) == 75
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("on", ["cpu", "cpu_2_processes"])
def test_a_signal_before_there_is_a_run_to_stop_leaves_it_to_be_made(launch, on):
    body = "    signal.signal(signal.SIGTERM, signal.SIG_DFL)" + TELLS_ITS_LAUNCHER.format(name="SIGUSR1")
    with pytest.raises(RunStopped, match="on SIGUSR1; the same command goes on"):
        launch(body, on=on)


@pytest.mark.parametrize("on", ["cpu", "cpu_2_processes"])
def test_a_process_that_is_killed_is_told_of_once(launch, on):
    last = 0 if on == "cpu" else 1
    with pytest.raises(RunError, match=f"process {last} of the run was ended by SIGKILL.*goes on from its last checkp"):
        launch(f"    os.kill(os.getpid(), signal.SIGKILL) if rank == {last} else time.sleep(120)", on=on)


def test_a_process_that_died_is_started_anew(launch, tmp_path):
    body = """
    wait_for_all()
    if (rank, attempt) == (1, 0):
        os.kill(os.getpid(), signal.SIGKILL)
"""
    assert launch(body, options=("--max_restarts", "1")) == 0
    assert sorted(path.name for path in tmp_path.glob("started-*")) == [
        f"started-{name}" for name in ("0-0", "0-1", "1-0", "1-1")
    ]


@pytest.mark.parametrize(
    ("told", "launcher", "code"),
    [
        ([], 1, 1),
        ([0, 0], 0, 0),
        ([75, 75], 1, 75),
        ([75, 1], 1, 1),
        ([1, 2], 1, 2),
        ([1], 0, 0),  # of a process that was started anew
        ([2], -9, 2),
    ],
)
def test_what_the_processes_told_is_the_exit_code_of_the_run(tmp_path, told, launcher, code):
    for rank, each in enumerate(told):
        (tmp_path / str(rank)).write_text(str(each))
    assert exit_code_of_run(tmp_path, launcher=launcher) == code


@pytest.fixture
def taken_port():
    """A port of this machine at which somebody answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def free_port():
    """A port of this machine at which nobody answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_the_first_machine_needs_a_free_port(taken_port):
    with pytest.raises(DeviceError, match=f"port {taken_port} of this machine is taken; give another"):
        check_rendezvous(Nodes(2, 0, Endpoint("127.0.0.1", taken_port)))


def test_machines_that_can_meet(taken_port, free_port):
    check_rendezvous(Nodes(2, 0, Endpoint("127.0.0.1", free_port)))
    check_rendezvous(Nodes(2, 1, Endpoint("127.0.0.1", taken_port), join_timeout=1))
    check_rendezvous(Nodes())


def test_a_machine_that_does_not_answer_is_waited_for_and_no_longer(free_port):
    began = time.monotonic()
    with pytest.raises(DeviceError, match=f"127.0.0.1:{free_port} didn't answer within 1 s .Connection refused.; see"):
        check_rendezvous(Nodes(2, 1, Endpoint("127.0.0.1", free_port), join_timeout=1))
    assert time.monotonic() - began < 3


def test_a_name_without_an_address():
    with pytest.raises(DeviceError, match=r"nowhere\.invalid has no address"):
        check_rendezvous(Nodes(2, 1, Endpoint("nowhere.invalid", 29500)))


def test_a_machine_knows_the_address_and_the_interface_on_the_way():
    nodes = located(Nodes(2, 0, Endpoint("127.0.0.1", 29500)))
    assert (nodes.address, nodes.interface) == ("127.0.0.1", "lo")
    assert located(Nodes()) == Nodes()


@pytest.mark.parametrize(
    "error", [torch.distributed.DistStoreError("wait timeout\nat store.cpp"), RendezvousConnectionError("wait timeout")]
)
def test_machines_that_lose_each_other_are_told_of(launch, monkeypatch, error):
    def lose(arguments):
        raise error

    monkeypatch.setattr("accelerate.commands.launch.launch_command", lose)
    with pytest.raises(RunError, match=r"can't reach each other any more \(wait timeout\); the same command goes on"):
        launch("    pass")


def test_machines_that_do_not_come_in_time_are_told_of(launch, free_port):
    options = ("--num_machines", "2", "--num_processes", "2", "--machine_rank", "0", "--main_process_ip", "127.0.0.1")
    options += ("--main_process_port", str(free_port), "--rdzv_backend", "c10d")
    options += ("--rdzv_conf", "join_timeout=1,is_host=true")
    with pytest.raises(DeviceError, match="--machines: not all"):
        launch("    pass", options=options)
