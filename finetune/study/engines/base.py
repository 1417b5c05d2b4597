"""What every engine is: the one thing in which studies on one machine and on a cluster differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console

    from finetune.recipe import Study
    from finetune.study.groves import Grove
    from finetune.study.jobs import Done
    from finetune.training.material import Library
    from finetune.training.stopping import StopRequest


@dataclass(frozen=True)
class Work:
    """What an engine is told: the study, read from the file `source`; what it is made from, which this process has read
    and checked; what is to stop it; where it speaks; and, where that decides something, how many runs are left."""

    study: Study
    source: Path
    library: Library
    stop: StopRequest
    console: Console
    count_left: Callable[[], int]

    @property
    def plugins(self) -> tuple[Path, ...]:
        """The user's own files, the same for all runs, which another process has to run before it is given any."""
        return tuple(self.study.settings[0].recipe.plugins)


@dataclass(frozen=True)
class Hands:
    """Those who make runs. `perform`: makes groves, yields each run as it ends, and raises RunStopped where it is told
    to stop, once the runs under way are safe; `least_groves`: how many there must be for runs to share updates."""

    perform: Callable[[Sequence[Grove]], Iterator[Done]]
    least_groves: int = 1


class Engine(Protocol):
    """A frozen dataclass, whose fields are its options, and a row in `finetune.study.engines.registry.ENGINES`.

    What a study's runs are, in which order and what comes of them, is no engine's business.
    """

    def check(self) -> None:
        """Raises FinetuneError, before anything is read, for options and machines that can't serve."""

    def at_work(self, work: Work) -> AbstractContextManager[Hands]:
        """Yields those who make the runs; raises FinetuneError, before any run, where they can't."""
