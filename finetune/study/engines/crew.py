"""The workers of a Ray cluster: their tasks are begun, waited for, and called off."""

from __future__ import annotations

import pickle
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from finetune.errors import DeviceError
from finetune.study.engines.cluster import Cluster, Failure
from finetune.study.engines.dispatch import Lost, Made, Task, Trunk
from finetune.study.engines.luggage import pack, unpack
from finetune.study.engines.sameness import refusal
from finetune.study.engines.worker import Answer, Order
from finetune.study.groves import Grove, Step, remove_trunks
from finetune.training import run_directory

MOST_AFTER_WORKERS = 3
"""How often a step is tried whose worker died, as when memory runs out: it may be the step that kills it."""
MOST_AFTER_MACHINES = 10
"""How often one is tried that lost its machine, or was told to stop there, as preemptible ones are."""
NO_ROOM_SECONDS = 300.0
"""How long is waited for a machine where none is left."""
STOPPED_WITHIN = 120.0
"""Seconds until every run has saved its checkpoint."""
BROUGHT_WITHIN = 600.0
"""Seconds until an answer, with the folders in it, must be here."""


class RayCrew:
    """As `Crew` says, on a `cluster` whose workers were told their charter. `most`: how many runs at once, None for as
    many as there is room for; `fetch`: whether runs are brought back from the workers."""

    def __init__(self, cluster: Cluster, charter: bytes, *, source: Path, most: int | None, fetch: bool) -> None:
        self._cluster = cluster
        self._charter = cluster.put(charter)
        self._source = source
        self._most = most
        self._fetch = fetch
        self._tasks: dict[Any, Task] = {}
        self._packed: dict[Path, Any] = {}
        self._had_room_at = time.monotonic()

    def room(self) -> int:
        """Twice what can be made at once, so that a worker finds the next when it is done, and a cluster that grows
        on demand sees that there is some; with `most`, that alone. Raises DeviceError where there is none for long."""
        places = self._cluster.places()
        if places:
            self._had_room_at = time.monotonic()
        elif time.monotonic() - self._had_room_at > NO_ROOM_SECONDS:
            raise DeviceError(
                f"engine: for {NO_ROOM_SECONDS:.0f} seconds no machine of the Ray cluster has had "
                f"{self._cluster.portion} for a run; mend the cluster, and the same command goes on"
            )
        return 2 * places if self._most is None else min(self._most, places)

    def begin(self, task: Task) -> Any:
        """As `Crew` says."""
        order = pickle.dumps(Order(task.step, task.start))
        ticket = self._cluster.begin(self._charter, order, self._luggage_of(task.start))
        self._tasks[ticket] = task
        return ticket

    def _luggage_of(self, trunk: Trunk | None) -> Any:
        """Returns where the content of a trunk is for workers to have; packed once for all that go on from it."""
        if trunk is None or not self._fetch:
            return None
        if trunk.folder not in self._packed:
            self._packed[trunk.folder] = self._cluster.put(pack(trunk.folder))
        return self._packed[trunk.folder]

    def wait(self, tickets: Collection[Any], *, seconds: float) -> Sequence[Any]:
        """As `Crew` says."""
        return self._cluster.wait(list(tickets), seconds=seconds)

    def result(self, ticket: Any) -> Made | Lost:
        """As `Crew` says."""
        task = self._tasks.pop(ticket)
        outcome = self._cluster.result(ticket, seconds=BROUGHT_WITHIN)
        if isinstance(outcome, Failure):
            return Lost(outcome.why, MOST_AFTER_MACHINES if outcome.is_of_machine else MOST_AFTER_WORKERS)
        answer: Answer = pickle.loads(outcome)  # noqa: S301 - of a worker of ours
        if answer.refused:
            raise DeviceError(f"engine: {refusal({'a machine that joined': answer.refused})}")
        if answer.stopped is not None:
            return Lost(f"its worker was told to stop ({answer.stopped})", MOST_AFTER_MACHINES)
        if self._fetch:
            self._bring_home(task.step, answer)
        trunk = task.step.folder(source=self._source)
        made = Trunk(trunk, task.step.until) if answer.has_trunk and trunk is not None else task.start
        return Made(answer.done, made)

    def _bring_home(self, step: Step, answer: Answer) -> None:
        """Puts the folders that came with an answer where those of runs made here would be."""
        trunk = step.folder(source=self._source)
        runs = [run_directory(job.recipe, source=self._source) for job in step.ending]
        for folder, content in zip([*([] if trunk is None else [trunk]), *runs], answer.luggage, strict=True):
            if content is not None:
                unpack(content, folder)

    def call_off(self, tickets: Collection[Any]) -> None:
        """Has every run save a checkpoint and stop, and waits for it; what then still is under way is killed."""
        left = list(tickets)
        self._cluster.interrupt(left)
        until = time.monotonic() + STOPPED_WITHIN
        while left and time.monotonic() < until:
            ended = set(self._cluster.wait(left, seconds=1.0))
            left = [ticket for ticket in left if ticket not in ended]
        self._cluster.kill(left)

    def leave(self, grove: Grove) -> None:
        """As `Crew` says."""
        for step in grove.steps:
            self._packed.pop(step.folder(source=self._source) or Path(), None)
        remove_trunks(grove, source=self._source)
