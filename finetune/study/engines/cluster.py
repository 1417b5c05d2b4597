"""A Ray cluster that this process is connected to: its machines, looked over before anything is made, and its tasks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from finetune.errors import DeviceError
from finetune.study.engines.portions import Portion, resources_in_words
from finetune.study.engines.sameness import MOST_TOLD, refusal

INSPECTED_WITHIN = 120.0
"""Seconds until every machine must have said what it has; it starts a process for it."""
PLACES_KNOWN_SECONDS = 2.0
"""How long what the machines have is taken to be as it was."""
ALL_GPUS_SEEN = "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"
"""With it a process sees all GPUs of its machine, and can be given another for the next run."""


@dataclass(frozen=True)
class Failure:
    """Why a task has no answer; `is_of_machine`: the whole machine is gone, so that it's none of the task's doing."""

    why: str
    is_of_machine: bool


@dataclass(frozen=True)
class Machine:
    """One that takes part: what Ray knows it by, what people do, and what it has in all."""

    node: str
    name: str
    resources: Mapping[str, float]


def machines_of(ray: Any) -> list[Machine]:
    """Returns the machines that are there."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    return [Machine(node["NodeID"], node["NodeManagerHostname"], node["Resources"]) for node in alive]


class Cluster:
    """Tasks on a cluster that this process is connected to, each of which takes a `portion` of a machine."""

    def __init__(self, ray: Any, *, portion: Portion) -> None:
        self._ray = ray
        self.portion = portion
        environment = {"env_vars": {ALL_GPUS_SEEN: "1"}} if portion.gpus else None
        self._answer = ray.remote(
            num_cpus=portion.cpus,
            num_gpus=portion.gpus,
            max_retries=0,  # which are ours to count, and to tell of
            max_calls=0,  # else a process with a GPU would make one step, and read libraries and data anew for the next
            runtime_env=environment,
        )(_answering())
        self._places = 0
        self._known_until = 0.0

    def put(self, content: bytes) -> Any:
        """Returns where workers find `content`."""
        return self._ray.put(content)

    def begin(self, charter: Any, order: bytes, luggage: Any) -> Any:
        """Begins a task; returns its ticket."""
        return self._answer.remote(charter, order, luggage)

    def wait(self, tickets: Sequence[Any], *, seconds: float) -> Sequence[Any]:
        """Returns the tasks that ended, as soon as there is one, or none after `seconds`."""
        if not tickets:
            time.sleep(seconds)
            return []
        ended, _ = self._ray.wait(tickets, num_returns=1, timeout=seconds, fetch_local=False)
        if ended:
            ended, _ = self._ray.wait(tickets, num_returns=len(tickets), timeout=0, fetch_local=False)
        return list(ended)

    def result(self, ticket: Any, *, seconds: float) -> Any | Failure:
        """Returns the answer of a task that ended, or why there is none."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(ticket, timeout=seconds)
        except errors.RayTaskError as error:
            return Failure(f"{type(error.cause).__name__}: {error.cause}", is_of_machine=False)
        except errors.OutOfMemoryError:
            return Failure("its worker was killed as its machine ran out of memory", is_of_machine=False)
        except errors.WorkerCrashedError:
            return Failure("its worker died", is_of_machine=False)
        except errors.RayError as error:
            return Failure(f"its machine was lost ({type(error).__name__})", is_of_machine=True)

    def places(self) -> int:
        """Returns how many runs all machines together have room for now."""
        if time.monotonic() > self._known_until:
            self._places = sum(self.portion.fits_in(machine.resources) for machine in self.machines())
            self._known_until = time.monotonic() + PLACES_KNOWN_SECONDS
        return self._places

    def machines(self) -> list[Machine]:
        """Returns those that are there and have room for a run."""
        return [machine for machine in machines_of(self._ray) if self.portion.fits_in(machine.resources)]

    def described(self) -> str:
        """Returns what the machines have that are there, for people."""
        machines = machines_of(self._ray)
        each = (f"{machine.name} has {resources_in_words(machine.resources)}" for machine in machines[:MOST_TOLD])
        more = f" and {len(machines) - MOST_TOLD:,} more" if len(machines) > MOST_TOLD else ""
        return f"{', '.join(each)}{more}" if machines else "there is none"

    def inspect(self, charter: bytes) -> dict[str, tuple[str, ...]]:
        """Returns what each machine lacks, by name, of those that lack something; raises DeviceError for no answer."""
        affinity = import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
        inspecting = self._ray.remote(num_cpus=0, max_retries=0)(_inspecting())
        asked = {
            inspecting.options(scheduling_strategy=affinity(machine.node, soft=False)).remote(charter): machine.name
            for machine in self.machines()
        }
        until = time.monotonic() + INSPECTED_WITHIN
        found = {
            name: self.result(ticket, seconds=max(0.1, until - time.monotonic())) for ticket, name in asked.items()
        }
        return {
            name: (f"no answer: {each.why}",) if isinstance(each, Failure) else tuple(each)
            for name, each in found.items()
            if each
        }

    def interrupt(self, tickets: Sequence[Any]) -> None:
        """Sends a SIGINT to the process of each task, on which a run saves a checkpoint; drops those not begun."""
        for ticket in tickets:
            self._ray.cancel(ticket, force=False, recursive=False)

    def kill(self, tickets: Sequence[Any]) -> None:
        """Ends the process of each task."""
        for ticket in tickets:
            self._ray.cancel(ticket, force=True, recursive=False)


def _answering() -> Callable[..., bytes]:
    """Returns what a worker does. It is sent as it is, without the package, so that one that has none can say so."""

    def finetune_step(charter: bytes, order: bytes, luggage: bytes | None) -> bytes:
        import ray

        from finetune.study.engines.worker import answer

        return answer(charter, order, luggage, ray.get_runtime_context().get_accelerator_ids().get("GPU", []))

    return finetune_step


def _inspecting() -> Callable[[bytes], tuple[str, ...]]:
    """Returns what a worker is asked first, sent likewise."""

    def finetune_inspection(charter: bytes) -> tuple[str, ...]:
        try:
            from finetune.study.engines.worker import inspect
        except ImportError as error:
            return (f"{error}: install finetune-schedules[ray] there too",)
        return inspect(charter)

    return finetune_inspection


def check_machines(cluster: Cluster, charter: bytes) -> None:
    """Raises DeviceError where no machine has room for a run, or one that has can't make it as this one would."""
    if not cluster.machines():
        raise DeviceError(
            f"engine: no machine of the Ray cluster has {cluster.portion} for a run: {cluster.described()}; ask for "
            "less with --cpus and --gpus, or add a machine"
        )
    lacking = cluster.inspect(charter)
    if lacking:
        raise DeviceError(f"engine: not every machine of the Ray cluster can make these runs; {refusal(lacking)}")
