"""A study on a real Ray cluster of three nodes: a head that makes no runs, and two that make one at a time each."""

import io
import os
import signal
import threading
import time

import psutil
import pytest
import torch
from rich.console import Console

from finetune.errors import DeviceError, RunStopped
from finetune.evaluation.record import HISTORY, find_runs
from finetune.recipe import load_study
from finetune.study import run_study
from finetune.study.engines.on_ray import RayEngine
from finetune.training.run_lock import LOCK
from tests.faults import assert_equal_outcomes, outcome

ray = pytest.importorskip("ray", reason="studies on Ray need the extra finetune-schedules[ray]")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
]

STUDY = """
training: {duration: 24}
evaluation: {every: 8, keep: best}
checkpoints: {every: 4}
study:
  keep_models: true
  grid:
    schedule: [{name: cosine, warmup: 8}, {name: linear, warmup: 8}, {name: wsd, warmup: 8, cooldown: 25%}]
    training.seed: [0, 1]
"""
# To 9 all are one; of each of two seeds, then, 9 + 3·15 updates.
SECONDS = 120
"""Until what a test waits for must have come."""
# A node that is killed is noticed within five seconds, as long as a busy machine may keep a live one from answering.
SYSTEM = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 1000,
    "health_check_failure_threshold": 5,
}


class Nodes:
    """The cluster. `lend` returns the process of a node that makes runs, which a test may kill."""

    def __init__(self):
        from ray.cluster_utils import Cluster

        self.cluster = Cluster()
        self.cluster.add_node(
            wait=False, num_cpus=0, include_dashboard=False, object_store_memory=80 * 2**20, _system_config=SYSTEM
        )
        for _ in range(2):
            self.add()

    def add(self):
        node = self.cluster.add_node(wait=False, num_cpus=1, object_store_memory=80 * 2**20)
        node.make_run = node.all_processes["raylet"][0].process.pid
        return node

    def wait_for(self, count):
        wait_until(lambda: sum(node["Alive"] and "CPU" in node["Resources"] for node in ray.nodes()) == count)

    def kill_that_of(self, process):
        """Kills the node that started a process, with all that it started."""
        node = next(node for node in self.cluster.worker_nodes if node.make_run == psutil.Process(process).ppid())
        self.cluster.remove_node(node, allow_graceful=False)


def wait_until(condition):
    until = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def nodes():
    before = signal.getsignal(signal.SIGTERM)
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_raylet_start_wait_time_s": str(SECONDS)}
    made = Nodes()
    ray.init(address=made.cluster.address, log_to_driver=False, configure_logging=False)
    made.wait_for(2)
    yield made
    ray.shutdown()
    made.cluster.shutdown()
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="module")
def one_thread():
    """As each run has on the cluster: with more, sums are taken in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def on_ray(nodes):
    """A function that returns the engine of the cluster."""
    return lambda **options: RayEngine(address=nodes.cluster.address, **options)


@pytest.fixture
def perform(write_study, tmp_path, one_thread):
    """A function that makes the study's runs in a folder, by an engine; returns them by name, and what was said."""
    source = write_study("on_ray", STUDY)

    def run(folder, engine=None):
        study, out = load_study(source, [f"output={tmp_path / folder}"]), io.StringIO()
        made = run_study(study, source=source, console=Console(file=out, width=200), engine=engine)
        assert not (made.directory / "trunks").exists()
        assert not list(made.directory.glob(".*"))
        return {run.name: run for run in find_runs([made.directory])}, out.getvalue()

    return run


@pytest.fixture
def expected(perform, made_here):
    """What comes of each run, by name, where all are made in this process; once for all tests."""
    if not made_here:
        runs, _ = perform("here")
        made_here.update({name: outcome(run) for name, run in runs.items()})
    return made_here


@pytest.fixture(scope="module")
def made_here():
    return {}


def assert_as_expected(runs, expected):
    """Bit for bit, with all updates of the history, so that none is there twice."""
    assert runs.keys() == expected.keys()
    assert len(runs) == 6
    for name, run in runs.items():
        assert_equal_outcomes(outcome(run), expected[name])


def in_the_middle(folder, act):
    """Calls `act` with the process of a run in `folder`, once it has made updates that are in no trunk."""

    def processes():
        for history in folder.rglob(HISTORY):
            lock = history.parent / LOCK
            if history.read_text().count("\n") >= 13 and lock.exists() and "trunks" not in history.parts:
                yield int(lock.read_text().split()[1])

    def watch():
        wait_until(lambda: any(processes()))
        act(next(processes()))

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_a_study_whose_node_is_killed_ends_as_one_on_this_machine(perform, expected, nodes, on_ray, tmp_path):
    killing = in_the_middle(tmp_path / "killed", nodes.kill_that_of)
    runs, text = perform("killed", on_ray())
    killing.join()
    assert_as_expected(runs, expected)
    assert "its machine was lost" in text or "its worker died" in text
    assert "it is made again" in text
    assert "6/6  final" in text


def test_runs_are_brought_back_where_no_folder_is_shared(perform, expected, on_ray):
    runs, _ = perform("brought", on_ray(fetch=True))
    assert_as_expected(runs, expected)


def test_a_study_that_is_interrupted_leaves_checkpoints_and_goes_on(perform, expected, on_ray, tmp_path):
    stopping = in_the_middle(tmp_path / "stopped", lambda process: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(RunStopped, match="the same command goes on from there"):
        perform("stopped", on_ray())
    stopping.join()
    assert list((tmp_path / "stopped").rglob("checkpoint-*"))
    assert not [path for name in (LOCK, "*.new") for path in (tmp_path / "stopped").rglob(name)]
    runs, _ = perform("stopped", on_ray())
    assert_as_expected(runs, expected)


def test_more_than_any_machine_has_is_refused(perform, on_ray):
    with pytest.raises(DeviceError, match=r"no machine of the Ray cluster has 64 CPUs for a run: .* has 1 CPU"):
        perform("never", on_ray(cpus=64))
