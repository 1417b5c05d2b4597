"""Running a launch: Accelerate in this process, signals passed on to the run's, and its exit code brought back."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from finetune.errors import DeviceError, RunError, RunStopped
from finetune.launching.command import Launch
from finetune.launching.exit_codes import PLACE, exit_code_of_run
from finetune.launching.nodes import Nodes
from finetune.launching.signals import PassedOn

FAILED = 1
TO_SAVE = "300"  # seconds that processes have for a checkpoint once they are told to stop
LOST = "the same command goes on from its last checkpoint"


def run_launch(launch: Launch) -> int:
    """Runs the command in this process, which becomes the launcher, and returns the exit code of the run.

    A SIGTERM, SIGUSR1 or Ctrl-C has the run stop in good order. Raises RunStopped where that came before there was a
    run to stop; RunError where a process was killed or a machine is gone; DeviceError where machines don't find each
    other in time.
    """
    passed_on = PassedOn()
    with tempfile.TemporaryDirectory(prefix="finetune-launch-") as name, passed_on.hearing(), _quietly(launch.nodes):
        # The two of torch leave signals to us, and give processes time to save.
        own = {PLACE: name, "PET_SIGNALS_TO_HANDLE": "SIGQUIT", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": TO_SAVE}
        with _environment({**own, **launch.environment}):
            code = _accelerate(launch, passed_on, told=Path(name))
        if passed_on.reason is not None and not any(Path(name).iterdir()):
            raise RunStopped(passed_on.reason)
        return exit_code_of_run(Path(name), launcher=code)


def _accelerate(launch: Launch, passed_on: PassedOn, *, told: Path) -> int:
    """Runs Accelerate's launcher, and returns its exit code."""
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed import DistError
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous.api import RendezvousError, RendezvousTimeoutError

    passed_on.end_by(SignalException)
    try:
        launch_command(launch_command_parser().parse_args([*launch.words[2:]]))
    except SignalException:
        return FAILED
    except subprocess.CalledProcessError as error:
        return _ended({0: error.returncode}, passed_on)
    except ChildFailedError as error:
        return _ended({rank: failure.exitcode for rank, failure in error.failures.items()}, passed_on)
    except RendezvousTimeoutError as error:
        if any(told.iterdir()):
            raise RunError(f"a machine of the run is gone, and none took its place in time; {LOST}") from error
        raise DeviceError(_not_joined(launch.nodes)) from error
    except (RendezvousError, DistError) as error:
        why = str(error).partition("\n")[0]
        raise RunError(f"the machines of the run can't reach each other any more ({why}); {LOST}") from error
    return 0


def _ended(codes: Mapping[int, int], passed_on: PassedOn) -> int:
    """Returns the launcher's exit code, given those of processes by rank; raises RunError where one was killed."""
    # Where one process ends, the launcher ends the others by a SIGTERM.
    killed = {rank: signal.Signals(-code).name for rank, code in codes.items() if code < 0 and -code != signal.SIGTERM}
    if killed and passed_on.reason is None:
        words = ", ".join(f"process {rank} of the run was ended by {name}" for rank, name in killed.items())
        raise RunError(f"{words}, as where memory runs out; {LOST}")
    return FAILED


def _not_joined(nodes: Nodes) -> str:
    return (
        f"--machines: not all {nodes.machines} machines came to {nodes.rendezvous} within {nodes.join_timeout} s; "
        "start the same command on each, with --rank from 0 on, or give --join-timeout more seconds"
    )


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets `variables`, for this process and those that it starts, meanwhile; Accelerate and torch add to them."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _quietly(nodes: Nodes) -> Iterator[None]:
    """Leaves it to the run to say why it ended; but that it was restarted torch alone says."""
    before = logging.root.manager.disable
    if not nodes.max_restarts:
        logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)
