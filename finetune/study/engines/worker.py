"""How a process of a cluster answers a study: it shows what it has, and has one step made at a time.

Nothing here loads torch before the process has been found fit.
"""

from __future__ import annotations

import os
import pickle
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from finetune.study.engines.sameness import Findings, differences, findings

if TYPE_CHECKING:
    from finetune.study.engines.bench import Bench
    from finetune.study.engines.dispatch import Trunk
    from finetune.study.groves import Step
    from finetune.study.jobs import Done

PASSED_ON = ("ACCELERATE_USE_CPU", "ACCELERATE_MIXED_PRECISION", "HF_HUB_OFFLINE", "TOKENIZERS_PARALLELISM")
"""The variables that decide what a run does, rather than where its machine keeps what it reads."""
SEEN_WITHIN = 5.0
"""Seconds until a file system that machines share shows one of them what another wrote."""


@dataclass(frozen=True)
class Charter:
    """What every worker of a study is told.

    `key`: no other study has it, nor the same one when it goes on; `directory`: what paths are relative to; `here`:
    what the machine that began the study has; `mark`: a file that this one wrote where the runs go, and its content,
    None where they are fetched; `plugins`: path and content of each; `environment`: variables to set; `cpus`: of each
    run.
    """

    key: str
    source: Path
    directory: Path
    here: Findings
    mark: tuple[Path, str] | None
    plugins: tuple[tuple[Path, bytes], ...]
    environment: Mapping[str, str]
    cpus: int
    keep_model: bool
    trust_remote_code: bool

    @property
    def fetched(self) -> bool:
        """Whether runs are made in a place of the worker's own, and brought back from there."""
        return self.mark is None


@dataclass(frozen=True)
class Order:
    """One step to make, on from the trunk `start`, whose content comes along where runs are fetched."""

    step: Step
    start: Trunk | None


@dataclass(frozen=True)
class Answer:
    """What came of an order. `refused`: what the worker lacks; `stopped`: why it didn't come to the end; `done`: the
    runs that ended; `has_trunk`: whether its trunk is made. `luggage`: where runs are fetched, the content of the
    trunk's folder, if it is made, and of that of each run, None for one that failed."""

    refused: tuple[str, ...] = ()
    stopped: str | None = None
    done: tuple[Done, ...] = ()
    has_trunk: bool = False
    luggage: tuple[bytes | None, ...] = ()


def inspect(charter: bytes) -> tuple[str, ...]:
    """Returns what this machine lacks, in words."""
    return _lacks(_read(charter))


def answer(charter: bytes, order: bytes, luggage: bytes | None, gpus: Sequence[str]) -> bytes:
    """Returns the Answer to an Order, both pickled: classes of plugins are known only once those ran here.

    `gpus`: those that this process may use now, by their numbers on this machine.
    """
    bench = _bench(charter)
    if isinstance(bench, tuple):
        return pickle.dumps(Answer(refused=bench))
    for gpu in gpus:
        _take_gpu(place_of_gpu(gpu, visible=os.environ.get("CUDA_VISIBLE_DEVICES")))
    return pickle.dumps(bench.make(pickle.loads(order), luggage))  # noqa: S301 - of the process that began the study


@cache
def _read(charter: bytes) -> Charter:
    read: Charter = pickle.loads(charter)  # noqa: S301 - of the process that began the study
    os.environ.update(read.environment)
    return read


@cache
def _bench(charter: bytes) -> Bench | tuple[str, ...]:
    """Returns where this process makes steps, with libraries and data read once; or why it can't."""
    read = _read(charter)
    lacking = _lacks(read)
    if lacking:
        return lacking
    from finetune.study.engines.bench import Bench

    return Bench(read)


def place_of_gpu(number: str, *, visible: str | None) -> int:
    """Returns which of the GPUs that this process sees is the one called `number` where all are seen.

    `visible`: the value of CUDA_VISIBLE_DEVICES, which may leave out some, or name them in another order.
    """
    seen = [] if visible is None else [each.strip() for each in visible.split(",")]
    return seen.index(number) if number in seen else int(number)


def _take_gpu(place: int) -> None:
    import torch

    torch.cuda.set_device(place)
    os.environ["LOCAL_RANK"] = str(place)


def _lacks(charter: Charter) -> tuple[str, ...]:
    faults = differences(charter.here, findings(charter.here.sizes))
    if charter.source.resolve() != charter.source:
        faults.append(f"{charter.source} leads elsewhere by a link: give the recipe by a path without links")
    if charter.mark is not None:
        faults += _unshared(*charter.mark)
    return tuple(faults)


def _unshared(mark: Path, content: str) -> list[str]:
    folder = mark.parent
    remedy = "set output to a folder that all machines share, or pass --fetch to have records brought back"
    try:
        if is_seen(mark) and mark.read_text(encoding="utf-8") == content:
            probe = folder / f".{socket.gethostname()}-{os.getpid()}.probe"
            probe.touch()
            probe.unlink()
            return []
    except OSError as error:
        return [f"{folder} can't be written to ({error.strerror}): {remedy}"]
    return [f"{folder} isn't the folder that the study writes to: {remedy}"]


def is_seen(path: Path) -> bool:
    """Whether `path` is there, for which a file system that machines share may take a moment."""
    until = time.monotonic() + SEEN_WITHIN
    while not path.exists():
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
        if path.parent.is_dir():
            os.listdir(path.parent)  # noqa: PTH208 - has what is known of the folder read anew
    return True
