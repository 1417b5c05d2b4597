"""Runs on several processes, forked off one that has loaded every library: each costs its training alone.

As a script it reads a launch, a JSON object, from each line of its input, and prints the exit codes as a list.
"""

import contextlib
import gc
import importlib
import io
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FSDP2 = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
}
LOADED = (
    *("finetune.training.plain_state", "finetune.training.processes", "finetune.metrics.classification"),
    *("finetune.cli", "finetune.training.fine_tuning", "finetune.training.one_run", "finetune.evaluation.record"),
    *(
        "finetune.tasks.text_classification",
        "transformers.models.bert.modeling_bert",
        "sklearn.metrics",
        "rich.progress",
    ),
    *("torch.distributed.checkpoint.state_dict", "torch.distributed.fsdp", "torch.distributed.tensor", "psutil"),
    *("accelerate", "datasets", "pyarrow.parquet", "finetune.report.model_card"),
)


@dataclass(frozen=True)
class Done:
    """What came of a launch: by process, its exit code and what it printed."""

    codes: list
    out: list
    err: list

    def check(self):
        """Returns this where all processes ended well."""
        assert set(self.codes) == {0}, "\n".join([f"exit codes {self.codes}", *self.out, *self.err])
        return self


class Forks:
    """The process that others are forked off."""

    def __init__(self, folder):
        self._folder = folder
        self._launches = 0
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("ACCELERATE_", "FSDP_"))
        }
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        )

    def launch(self, processes, *arguments, own=None, environment=None, stop_at=None, seconds=120):
        """Runs the command line `arguments` on `processes`; `own`: rank ▶ what it alone is given besides.

        `environment`: of all processes; `stop_at`: the update at which the last of them is sent a SIGTERM.
        """
        folder = self._folder / str(self._launches)
        folder.mkdir(parents=True)
        self._launches += 1
        launch = {
            "processes": processes,
            "arguments": [*map(str, arguments)],
            "own": {str(rank): [*map(str, given)] for rank, given in (own or {}).items()},
            "environment": environment or {},
            "stop_at": stop_at,
            "seconds": seconds,
            "folder": str(folder),
        }
        self._process.stdin.write(json.dumps(launch) + "\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], seconds + 60)
        assert ready, "no answer"
        codes = json.loads(self._process.stdout.readline())
        out, err = ([(folder / f"{rank}.{kind}").read_text() for rank in range(processes)] for kind in ("out", "err"))
        return Done(codes, out, err)

    def close(self):
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


def _free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _run(launch, rank, port):
    """Runs one process of a launch; returns its exit code."""
    processes = launch["processes"]
    os.environ.update(launch["environment"])
    if processes > 1 or launch["environment"]:
        ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
        os.environ.update({name: str(value) for name, value in ranks.items()})
        os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)})
    if launch["stop_at"] is not None and rank == processes - 1:
        _stop_at(launch["stop_at"])
    from finetune.cli import main

    try:
        main([*launch["arguments"], *launch["own"].get(str(rank), [])])
    except SystemExit as end:
        return end.code or 0
    return 0


def _stop_at(step):
    from finetune.training.trainer import ScheduledTrainer

    original, sent = ScheduledTrainer.training_step, []

    def training_step(self, *args, **kwargs):
        if self.state.global_step == step and not sent:
            sent.append(True)
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *args, **kwargs)

    ScheduledTrainer.training_step = training_step


def _fork(launch, rank, port):
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        for number, kind in ((1, "out"), (2, "err")):
            file = os.open(f"{launch['folder']}/{rank}.{kind}", os.O_WRONLY | os.O_CREAT)
            os.dup2(file, number)
        sys.stdout, sys.stderr = (io.TextIOWrapper(io.FileIO(number, "w", closefd=False)) for number in (1, 2))
        code = _run(launch, rank, port)
    except BaseException:  # noqa: BLE001 - the end of a process
        import traceback

        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(ValueError):
                stream.flush()
        os._exit(code)


def _wait(children, seconds):
    """Returns the exit codes of `children`; those that are left after `seconds` are killed."""
    deadline, codes = time.monotonic() + seconds, {}
    while len(codes) < len(children):
        for child in children:
            if child not in codes:
                ended, status = os.waitpid(child, os.WNOHANG)
                if ended:
                    codes[child] = os.waitstatus_to_exitcode(status)
                elif time.monotonic() > deadline:
                    os.kill(child, signal.SIGKILL)
        time.sleep(0.01)
    return [codes[child] for child in children]


def serve():
    """Answers every line of the input."""
    for name in LOADED:
        importlib.import_module(name)
    import torch
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    torch.set_num_threads(1)
    get_checkpoint_conversion_mapping("bert")  # a second of work, kept for all
    gc.collect()
    gc.freeze()  # what is there already needn't be looked through again by every process
    for line in sys.stdin:
        launch, port = json.loads(line), _free_port()
        children = [_fork(launch, rank, port) for rank in range(launch["processes"])]
        print(json.dumps(_wait(children, launch["seconds"])), flush=True)


if __name__ == "__main__":
    serve()
