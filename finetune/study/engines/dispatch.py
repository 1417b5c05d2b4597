"""The order in which many make the steps of groves at once, and what becomes of a step whose maker is lost.

Nothing here knows who they are: on a cluster they are its workers.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

from finetune.errors import RunStopped
from finetune.study.groves import Grove, Step
from finetune.study.jobs import Done
from finetune.untrusted import presentable

HEARD_WITHIN = 0.5
"""Seconds until a request to stop is heard."""


NEAR_THE_END = 2
"""How often the longest run may still fit into what is left for each who makes steps, for that to be near the end."""


@dataclass(frozen=True)
class Trunk:
    """Where runs go on from: the checkpoint after update `until` in `folder`."""

    folder: Path
    until: int


@dataclass(frozen=True)
class Task:
    """Step `number` of the grove at `place` in the order of dispatch, on from `start`, for the `attempt`-th time."""

    place: int
    number: int
    step: Step
    start: Trunk | None = None
    attempt: int = 1

    @property
    def label(self) -> str:
        """What it is, for people."""
        if self.step.trunk is None:
            return self.step.ending[0].label
        return f"the first {self.step.until:,} updates of {len(self.step.passing):,} runs"


@dataclass(frozen=True)
class Made:
    """What came of a step: the runs that ended with it, and where those after it go on from."""

    done: tuple[Done, ...]
    trunk: Trunk | None


@dataclass(frozen=True)
class Lost:
    """A step that wasn't made, and why; at its attempt number `most` it isn't tried again."""

    why: str
    most: int


Ticket = TypeVar("Ticket")


class Crew(Protocol[Ticket]):
    """Those who make steps, each known by the ticket of the task that it was begun for."""

    def room(self) -> int:
        """Returns how many tasks may be under way now."""

    def begin(self, task: Task) -> Ticket:
        """Has a step made."""

    def wait(self, tickets: Collection[Ticket], *, seconds: float) -> Collection[Ticket]:
        """Returns those that ended, as soon as there is one, or none after `seconds`."""

    def result(self, ticket: Ticket) -> Made | Lost:
        """Returns what came of a task that ended; raises FinetuneError where none could be made like it."""

    def call_off(self, tickets: Collection[Ticket]) -> None:
        """Stops what is under way in good order, within limited time."""

    def leave(self, grove: Grove) -> None:
        """Clears away what only a grove needed that is made."""


def dispatch(
    crew: Crew[Ticket],
    groves: Sequence[Grove],
    *,
    find: Callable[[Step], Sequence[Done] | None],
    wants_to_stop: Callable[[], str | None],
    tell: Callable[[str], None],
) -> Iterator[Done]:
    """Has `crew` make the runs of `groves`, and yields each as it ends.

    Steps are begun when what they go on from is made; of those that can be, those of the grove that is first are, so
    that few trunks are there at once, and groves with the longest runs come first. Near the end it is those with the
    longest way to go after them, so that none is left over to be waited for. One that is lost is made again.
    `find`: returns the runs of a step that is recorded, None for one that isn't; `wants_to_stop`: returns the reason;
    `tell` is told of what is lost. Raises RunStopped, once all that was under way is called off.
    """
    queue = _Queue(groves)
    under_way: dict[Ticket, Task] = {}
    try:
        while queue.tasks or under_way:
            reason = wants_to_stop()
            if reason is not None:
                raise RunStopped(reason)
            while queue.tasks and len(under_way) < crew.room():
                task = queue.pop(crew.room())
                found = find(task.step)
                if found is None:
                    under_way[crew.begin(task)] = task
                else:
                    yield from _settled(queue, crew, task, Made(tuple(found), task.start))
            ended = crew.wait(under_way, seconds=HEARD_WITHIN) if under_way or queue.tasks else ()
            for ticket in ended:
                task, result = under_way.pop(ticket), crew.result(ticket)
                if isinstance(result, Lost) and task.attempt < result.most:
                    tell(f"{task.label}: {result.why}; it is made again")
                    queue.push(replace(task, attempt=task.attempt + 1))
                else:
                    yield from _settled(queue, crew, task, _made(task, result))
    except BaseException:
        crew.call_off(under_way)
        raise


def _made(task: Task, result: Made | Lost) -> Made:
    """Returns what came of a task that isn't tried again: of one that is lost, runs that failed."""
    if isinstance(result, Made):
        return result
    problem = f"{result.why}, {task.attempt} times" if task.attempt > 1 else result.why
    return Made(tuple(Done(job, "failed", problem=presentable(problem)) for job in task.step.ending), task.start)


def _settled(queue: _Queue, crew: Crew[Ticket], task: Task, made: Made) -> Iterator[Done]:
    grove = queue.settle(task, made.trunk)
    if grove is not None:
        crew.leave(grove)
    yield from made.done


class _Queue:
    """The tasks that can be begun, in order; `settle` adds those that a task was waited for by."""

    def __init__(self, groves: Sequence[Grove]) -> None:
        self._groves = sorted(groves, key=_longest, reverse=True)
        self._after = [_by_parent(grove) for grove in self._groves]
        self._left = [len(grove.steps) for grove in self._groves]
        self._ways = [_ways_to_go(grove) for grove in self._groves]
        self._updates_left = sum(segment.updates for grove in groves for segment in grove.segments)
        self._is_near_the_end = False
        self.tasks: list[tuple[tuple[int, ...], Task]] = []
        for place in range(len(self._groves)):
            self._push_those_after(place, None, None)

    def push(self, task: Task) -> None:
        heapq.heappush(self.tasks, (self._rank(task), task))

    def pop(self, makers: int) -> Task:
        """Returns the task to be begun next, of several `makers`."""
        longest = _longest(self._groves[0])
        if not self._is_near_the_end and self._updates_left <= NEAR_THE_END * longest * (makers - 1):
            self._is_near_the_end = True
            self.tasks = sorted((self._rank(task), task) for _, task in self.tasks)
        task = heapq.heappop(self.tasks)[1]
        grove = self._groves[task.place]
        self._updates_left -= grove.segments[task.number].updates if grove.segments else 0
        return task

    def _rank(self, task: Task) -> tuple[int, ...]:
        longest, together = self._ways[task.place][task.number] if self._is_near_the_end else (0, 0)
        return -longest, -together, task.place, task.number

    def settle(self, task: Task, end: Trunk | None) -> Grove | None:
        """Takes notice that a task is over, its end being `end`; returns its grove if that is over too."""
        self._push_those_after(task.place, task.number, end)
        self._left[task.place] -= 1
        return None if self._left[task.place] else self._groves[task.place]

    def _push_those_after(self, place: int, parent: int | None, start: Trunk | None) -> None:
        for number in self._after[place].get(parent, ()):
            self.push(Task(place, number, self._groves[place].steps[number], start))


def _by_parent(grove: Grove) -> dict[int | None, list[int]]:
    """Returns the numbers of the steps that go on from each; from None those that begin with the pretrained model."""
    after: dict[int | None, list[int]] = {}
    for number, step in enumerate(grove.steps):
        after.setdefault(step.parent, []).append(number)
    return after


def _ways_to_go(grove: Grove) -> list[tuple[int, int]]:
    """Returns of each step the updates from its start to the end of the longest run, and of all runs, on from it."""
    ways = [(0, 0)] * len(grove.steps)
    for number, segment in reversed(list(enumerate(grove.segments))):
        longest, together = (own + segment.updates for own in ways[number])
        ways[number] = (longest, together)
        if segment.parent is not None:
            before = ways[segment.parent]
            ways[segment.parent] = (max(before[0], longest), before[1] + together)
    return ways


def _longest(grove: Grove) -> int:
    """Returns how many updates its longest run has; 0 for runs apart, which were not laid out."""
    return max((segment.end for segment in grove.segments), default=0)
