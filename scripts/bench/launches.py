"""Every way to launch a run, against one process: the same rates and scores, and checkpoints that go on elsewhere.

    .venv/bin/python scripts/bench/launches.py

Each mode trains a tiny encoder without dropout on 1,026 sentences, whose last batch of an epoch has two, less than
there may be processes, and is compared with one process update by update. Then a run of it is sent a SIGTERM after its
first checkpoint and goes on on one process, and one of one process goes on in this mode. Writes docs/launch_table.md, a
row for each mode, run or with the reason why it couldn't be.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

from finetune.evaluation.record import RECORD, find_runs, read_history, read_record
from finetune.training.environment import describe_hardware

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))

from tests import tiny  # noqa: E402

CONFIGS = ROOT / "accelerate_configs"
SIZES = {"train": 1026, "validation": 130, "test": 67}
SETTINGS = (
    *("training.duration=3ep", "training.batch_size=16", "optimizer.learning_rate=5e-4", "evaluation.every=1ep"),
    *("checkpoints.every=40", "training.precision=fp32"),
)
LIMIT = 300.0
TOLERANCE = 1e-2
LEFT_OUT = "left out of this pass (`--only`), or it was ended before"


@dataclass(frozen=True, eq=False)
class Mode:
    """A way to launch. `commands`: one for each machine, `RUN` in it the script and its arguments; `lacks`: why not."""

    name: str
    commands: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    lacks: str | None = None
    refused: bool = False


@dataclass(frozen=True)
class Row:
    """What came of a mode. Texts for the columns of the table."""

    mode: str
    command: str
    rates: str
    scores: str
    resumed: str


def modes() -> Iterator[Mode]:
    """Yields every mode, those too that this machine can't run."""
    on_cpu = {"ACCELERATE_USE_CPU": "true"}
    yield Mode("one process", (_config("cpu"),))
    for count in (2, 3, 4):
        yield Mode(f"{count} processes, gloo", (f"{_config('cpu_2_processes')} --num_processes {count}",), on_cpu)
    yield Mode("FSDP2, 2 processes, gloo", (f"{_config('fsdp2')} --num_processes 2",), on_cpu)
    port = _free_port()
    yield Mode(
        "two machines of one process each, gloo (both this one, by their ranks and an address)",
        tuple(
            f"torchrun --nnodes 2 --node-rank {rank} --nproc-per-node 1 --master-addr 127.0.0.1 --master-port {port}"
            for rank in (0, 1)
        ),
        on_cpu,
    )
    gpus = torch.cuda.device_count()
    none, one = (None if gpus >= count else _too_few(gpus) for count in (1, 2))
    yield Mode("one GPU", (_config("single_gpu"),), lacks=none)
    yield Mode("FSDP2, one GPU", (f"{_config('fsdp2')} --num_processes 1",), lacks=none)
    yield Mode("FSDP2 with CPU offload, one GPU", (f"{_config('fsdp2_cpu_offload')} --num_processes 1",), lacks=none)
    yield Mode("2 GPUs, NCCL", (f"{_config('multi_gpu')} --num_processes 2",), lacks=one)
    yield Mode("FSDP2, 2 GPUs", (f"{_config('fsdp2')} --num_processes 2",), lacks=one)
    yield Mode("FSDP2 with CPU offload, 2 GPUs", (f"{_config('fsdp2_cpu_offload')} --num_processes 2",), lacks=one)
    for stage in (1, 2, 3):
        asked = {**on_cpu, "ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": str(stage)}
        yield Mode(f"DeepSpeed ZeRO-{stage}", ("torchrun --standalone --nproc-per-node 2",), asked, refused=True)


def _too_few(gpus: int) -> str:
    return f"{gpus or 'no'} GPU{'s' * (gpus > 1)} can be seen"


def _config(name: str) -> str:
    return f"accelerate launch --config_file {CONFIGS.relative_to(ROOT) / name}.yaml"


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Bench:
    """The recipe that all modes train, and what one process makes of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        tiny.save_model(folder / "plain", positions=64)
        model = tiny.without_dropout(folder / "plain", folder / "model")
        splits = {split: tiny.sentences(count, seed) for seed, (split, count) in enumerate(SIZES.items())}
        task = "{name: text_classification, text: sentence, label: label, max_length: 32}"
        self._recipe = tiny.write_task_recipe(folder, model, task, splits)
        self._runs = 0
        self._stopped_alone: dict[Mode, Path] = {}

    def row(self, mode: Mode, alone: Mode, expected: Path | None) -> tuple[Row, Path | None]:
        """Returns the row of `mode`, and its run, to be `expected` of others."""
        command = _in_table(mode)
        if mode.refused:
            return Row(mode.name, command, *[f"refused: {self._refusal(mode)}"] * 3), None
        place, stopped = self._whole(mode, self._output()), self._stopped(mode)
        if expected is None:
            self._stopped_alone[alone] = stopped
            resumed = self._resumed(stopped, mode, place)
            return Row(mode.name, command, "the reference", "the reference", f"by itself: {resumed}"), place
        there = self._resumed(stopped, alone, expected)
        back = self._resumed(self._stopped_alone[alone], mode, expected)
        resumed = f"from it to one process: {there}; from one process to it: {back}"
        return Row(mode.name, command, *_compared(place, expected), resumed), place

    def _output(self) -> Path:
        self._runs += 1
        return self._folder / f"runs{self._runs}"

    def _whole(self, mode: Mode, output: Path) -> Path:
        with self._launched(mode, output) as processes:
            for process in processes:
                if process.wait(LIMIT) != 0:
                    raise SystemExit(f"{mode.name}: exit code {process.returncode}:\n{_said(output)}")
        (place,) = find_runs([output])
        return place

    def _refusal(self, mode: Mode) -> str:
        output = self._output()
        with self._launched(mode, output) as processes:
            for process in processes:
                process.wait(LIMIT)
        messages = [line for line in _said(output).splitlines() if line.startswith("finetune: ")]
        if len(messages) != 1:
            raise SystemExit(f"{mode.name}: not refused with one message:\n{_said(output)}")
        return messages[0].removeprefix("finetune: ")

    def _stopped(self, mode: Mode) -> Path:
        """Returns the output of a run that was stopped after a checkpoint."""
        output = self._output()
        with self._launched(mode, output) as processes:
            _wait_for_checkpoint(output, processes)
            for process in processes:
                process.send_signal(signal.SIGTERM)
            for process in processes:
                process.wait(LIMIT)
        _wait_until_stopped(output)
        return output

    def _resumed(self, stopped: Path, then: Mode, expected: Path) -> str:
        """Returns whether a run that was stopped goes on as if it had not been."""
        output = self._output()
        shutil.copytree(stopped, output)
        rates, scores = _compared(self._whole(then, output), expected)
        return "yes" if (rates, scores.partition(" ")[0]) == ("yes", "yes") else f"rates {rates}, scores {scores}"

    @contextmanager
    def _launched(self, mode: Mode, output: Path) -> Iterator[Sequence[subprocess.Popen[bytes]]]:
        output.mkdir(exist_ok=True)
        run = ["finetune/run.py", str(self._recipe), f"output={output}", *SETTINGS]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE_")}
        environment |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **mode.environment}
        path = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
        with (output / "said.txt").open("ab") as said:
            processes = [
                subprocess.Popen(
                    [*shlex.split(command), *run], cwd=ROOT, env=environment | path, stdout=said, stderr=said
                )
                for command in mode.commands
            ]
            try:
                yield processes
            finally:
                for process in processes:
                    process.kill()
                    process.wait()


def _said(output: Path) -> str:
    return (output / "said.txt").read_text(encoding="utf-8")


def _wait_for_checkpoint(output: Path, processes: Sequence[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + LIMIT
    while not list(output.glob("*/*/checkpoints/checkpoint-*/manifest.json")):
        if time.monotonic() > deadline or any(process.poll() is not None for process in processes):
            raise SystemExit(f"no checkpoint before the end:\n{_said(output)}")
        time.sleep(0.01)


def _wait_until_stopped(output: Path) -> None:
    """Waits for processes that outlive their launcher by the time that they take to save."""
    deadline = time.monotonic() + LIMIT
    while list(output.glob("*/*/.running")):
        if time.monotonic() > deadline:
            raise SystemExit(f"not stopped:\n{_said(output)}")
        time.sleep(0.05)
    if list(output.glob(f"*/*/{RECORD}")):
        raise SystemExit("the run ended before it could be stopped; make SETTINGS longer")


def _compared(place: Path, expected: Path) -> tuple[str, str]:
    """Returns whether rates are equal, bit by bit, and scores, with the largest difference of losses."""
    one, other = ([row for row in read_history(each) if "rates" in row] for each in (place, expected))
    rates = "yes" if [row["rates"] for row in one] == [row["rates"] for row in other] else "no"
    largest = max(abs(a["loss"] / b["loss"] - 1) for a, b in zip(one, other, strict=True))
    results, wanted = read_record(place).results, read_record(expected).results
    assert results is not None  # noqa: S101
    assert wanted is not None  # noqa: S101
    counts = {split: result.count for split, result in results.splits.items()}
    metrics = [{split: result.metrics for split, result in each.splits.items()} for each in (results, wanted)]
    same = counts == {split: SIZES[split] for split in counts} and metrics[0] == metrics[1] and largest < TOLERANCE
    return rates, f"{'yes' if same else 'no'} (losses within {largest:.0e})"


def _in_table(mode: Mode) -> str:
    given = " ".join(f"{name}={value}" for name, value in mode.environment.items())
    commands = [command.replace(str(ROOT), ".") for command in mode.commands]
    first = commands[0].split("--master-port")[0].strip()
    return f"`{given} {first}`".replace("` ", "`") + (" and its like of rank 1" if len(commands) > 1 else "")


def _page(rows: Sequence[Row]) -> str:
    gpus = torch.cuda.device_count()
    device = describe_hardware(torch.device("cuda" if gpus else "cpu"))
    header = ["mode", "launched by", "rates equal", "scores equal", "resumes across sizes"]
    lines = [header, ["---"] * len(header), *([r.mode, r.command, r.rates, r.scores, r.resumed] for r in rows)]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "accelerate"))
    return f"""# Every way to launch a run, against one process

Written by `scripts/bench/launches.py` on {datetime.now(UTC):%Y-%m-%d}: {device}, {versions}.
Each row is a run of 195 updates of a tiny encoder, in fp32, without dropout (which draws anew in each process). *Rates*
are compared bit by bit at every update. *Scores* are the metrics of validation and test, with the number of examples of
each, and every update's loss, within {TOLERANCE:.0%}. To *resume*, a run is sent a SIGTERM after its first checkpoint,
goes on under the other launch, and is compared in the same way.

{table}
"""


def main() -> None:
    """Runs all modes, or those named in part, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="*", default=[], help="parts of the names of modes")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "launch_table.md")
    arguments = parser.parse_args()
    every = [*modes()]
    rows = {mode: Row(mode.name, _in_table(mode), *[f"not run: {mode.lacks or LEFT_OUT}"] * 3) for mode in every}
    references: dict[bool, tuple[Mode, Path]] = {}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        for mode in every:
            on_gpu = "GPU" in mode.name  # then the one process that it is compared with has one too
            is_chosen = not arguments.only or any(part in mode.name for part in arguments.only)
            if mode.lacks or not (is_chosen or mode.name in ("one process", "one GPU")):
                continue
            alone, expected = references.get(on_gpu, (mode, None))
            rows[mode], place = bench.row(mode, alone, expected)
            if place is not None:
                references.setdefault(on_gpu, (mode, place))
            arguments.output.write_text(_page([*rows.values()]), encoding="utf-8")
            row = rows[mode]
            print(f"{row.mode}: rates {row.rates}; scores {row.scores}; {row.resumed}", flush=True)


if __name__ == "__main__":
    main()
