"""Runs on a Ray cluster: each step of a grove is a task, which takes CPUs and a share of a GPU."""

from __future__ import annotations

import os
import pickle
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from finetune.errors import DeviceError, SettingError
from finetune.evaluation.record import write_atomically
from finetune.study.engines.base import Hands, Work
from finetune.study.engines.cluster import Cluster, check_machines, machines_of
from finetune.study.engines.connecting import check_reachable, connected, import_ray
from finetune.study.engines.crew import RayCrew
from finetune.study.engines.dispatch import dispatch
from finetune.study.engines.portions import Portion, gpus_of_each
from finetune.study.engines.sameness import findings, inputs_of
from finetune.study.engines.worker import PASSED_ON, Charter
from finetune.study.groves import Grove, Step, perform_step
from finetune.study.jobs import Done
from finetune.study.ledger import study_directory
from finetune.training.progress import say
from finetune.training.run_directory import claim


@dataclass(frozen=True)
class RayEngine:
    """`address`: of the cluster, HOST:PORT; that of RAY_ADDRESS, or of one on this machine, unless given. `cpus`,
    `gpus`: what each run takes, a GPU where the cluster has any unless given. `workers`: how many runs at once, as many
    as there is room for unless given. `fetch`: brings runs back from machines that don't share the output folder."""

    address: str | None = None
    workers: int | Literal["auto"] = "auto"
    cpus: int = 1
    gpus: float | None = None
    fetch: bool = False

    def check(self) -> None:
        """As `Engine` says."""
        if self.workers != "auto" and self.workers < 1:
            raise SettingError("workers", f"{self.workers} must be 1 or more, or auto: all there is room for")
        if self.cpus < 1:
            raise SettingError("cpus", f"{self.cpus} must be 1 or more: each run computes with that many threads")
        if self.gpus is not None and not 0 <= self.gpus <= 1:
            raise SettingError("gpus", f"{self.gpus:g} must be from 0 to 1: a run uses one GPU, or a share of it")
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise DeviceError("engine: ray starts the processes itself; run finetune study without a launcher")
        import_ray()
        check_reachable(self.address)

    @contextmanager
    def at_work(self, work: Work) -> Iterator[Hands]:
        """As `Engine` says."""
        with connected(self.address) as ray, _marked(work, fetch=self.fetch) as mark:
            work.stop.listen()  # as Ray has its own ends on a signal
            gpus = gpus_of_each(self.gpus, [machine.resources for machine in machines_of(ray)])
            cluster = Cluster(ray, portion=Portion(self.cpus, gpus))
            charter = pickle.dumps(_charter(work, mark, cluster.portion))
            check_machines(cluster, charter)
            say(work.console, f"Ray: room for {cluster.places():,} runs at once, each with {cluster.portion}")
            most = None if self.workers == "auto" else self.workers
            crew = RayCrew(cluster, charter, source=work.source, most=most, fetch=self.fetch)
            yield Hands(partial(_perform, crew, work))


def _perform(crew: RayCrew, work: Work, groves: Sequence[Grove]) -> Iterator[Done]:
    def find(step: Step) -> list[Done] | None:
        if not step.is_recorded(source=work.source):
            return None
        made = perform_step(
            step,
            None,
            source=work.source,
            library=work.library,
            stop=work.stop,
            keep_model=work.study.block.keep_models,
            catch=True,
        )
        return list(made)

    return dispatch(
        crew,
        groves,
        find=find,
        wants_to_stop=lambda: work.stop.reason,
        tell=lambda line: say(work.console, f"  {line}"),
    )


@contextmanager
def _marked(work: Work, *, fetch: bool) -> Iterator[tuple[Path, str] | None]:
    """Yields a file where the runs go, and its content, by which others see that it is the same folder.

    Yields None where runs are fetched.
    """
    if fetch:
        yield None
        return
    folder = study_directory(work.study).absolute()
    claim(folder)
    mark, content = folder / f".{uuid.uuid4().hex}.shared", uuid.uuid4().hex
    write_atomically(mark, lambda path: path.write_text(content, encoding="utf-8"))
    try:
        yield mark, content
    finally:
        mark.unlink(missing_ok=True)


def _charter(work: Work, mark: tuple[Path, str] | None, portion: Portion) -> Charter:
    recipes = [setting.recipe for setting in work.study.settings]
    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    # A task that takes no GPU still sees those of its machine.
    kept_off = {} if portion.gpus else {"ACCELERATE_USE_CPU": "true"}
    return Charter(
        key=uuid.uuid4().hex,
        source=work.source.resolve(),
        directory=Path.cwd(),
        here=findings(inputs_of(recipes)),
        mark=mark,
        plugins=tuple((plugin, plugin.read_bytes()) for plugin in work.plugins),
        environment=passed_on | kept_off,
        cpus=portion.cpus,
        keep_model=work.study.block.keep_models,
        trust_remote_code=work.library.trust_remote_code,
    )
