"""Where a process of a cluster makes steps, one at a time, with libraries and data read once."""

from __future__ import annotations

import gc
import os
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from finetune.errors import RecipeError, RunStopped
from finetune.evaluation.record import RECORD
from finetune.recipe.plugins import run_plugin
from finetune.study.engines.dispatch import Trunk
from finetune.study.engines.luggage import pack, restore_places, unpack
from finetune.study.engines.worker import Answer, Charter, Order, is_seen
from finetune.study.groves import Step, perform_step
from finetune.study.jobs import Done, Job
from finetune.training import run_directory
from finetune.training.checkpoints import Checkpoint, checkpoint_of
from finetune.training.material import Library
from finetune.training.run_lock import is_held
from finetune.training.stopping import StopRequest

FREE_WITHIN = 90.0
"""Seconds until a run is let go of by a worker that the cluster has given up: it ends when its machine notices."""


class Bench:
    """Makes steps of the study of `charter` in this process."""

    def __init__(self, charter: Charter) -> None:
        self._charter = charter
        self._own = tempfile.TemporaryDirectory(prefix="finetune-")
        self._plugins = tuple(self._run_plugin(*plugin) for plugin in charter.plugins)
        if not charter.fetched:
            os.chdir(charter.directory)
        torch.set_num_threads(charter.cpus)
        self._stop = StopRequest()
        self._stop.listen()
        self._library = Library(keep_weights=True, trust_remote_code=charter.trust_remote_code)
        gc.collect()
        gc.freeze()

    def _run_plugin(self, path: Path, content: bytes) -> Path:
        """Runs a plugin, and returns where it lies here: at its own place, or else among this process's files."""
        try:
            place = path if path.read_bytes() == content else None
        except OSError:
            place = None
        if place is None:
            place = Path(tempfile.mkdtemp(dir=self._own.name)) / path.name
            place.write_bytes(content)
        problem = run_plugin(path, copy=place)
        if problem:
            raise RecipeError(f"plugins: {problem}")
        return place

    def make(self, order: Order, luggage: bytes | None) -> Answer:
        """Makes a step, in a place of its own where runs are fetched; a request to stop is an answer too."""
        with self._output() as output:
            step = self._moved(order.step, output)
            if output is None:
                self._wait_until_free(step)
            before = _checkpoint(order.start, luggage, output)
            try:
                done, end = _collected(self._perform(step, before))
            except RunStopped as stopped:
                return Answer(stopped=stopped.reason)
            answer = Answer(done=tuple(done), has_trunk=end is not before)
            return self._brought_home(order, step, answer, output)

    def _perform(self, step: Step, before: Checkpoint | None) -> Generator[Done, None, Checkpoint | None]:
        return perform_step(
            step,
            before,
            source=self._charter.source,
            library=self._library,
            stop=self._stop,
            keep_model=self._charter.keep_model,
            catch=True,
        )

    @contextmanager
    def _output(self) -> Iterator[Path | None]:
        """Yields a folder for the runs of one step; None where they are made in their own place."""
        if not self._charter.fetched:
            yield None
            return
        with tempfile.TemporaryDirectory(dir=self._own.name) as folder:
            yield Path(folder)

    def _moved(self, step: Step, output: Path | None) -> Step:
        """Returns `step` as it is made here: plugins, and where runs are fetched the output, lie in other places."""
        update: dict[str, object] = {"plugins": self._plugins}
        if output is not None:
            update["output"] = str(output)

        def moved(job: Job) -> Job:
            return replace(job, recipe=job.recipe.model_copy(update=update))

        trunk = None if step.trunk is None else moved(step.trunk)
        return replace(
            step, ending=tuple(map(moved, step.ending)), trunk=trunk, passing=tuple(map(moved, step.passing))
        )

    def _brought_home(self, order: Order, step: Step, answer: Answer, output: Path | None) -> Answer:
        """Returns `answer` in terms of the order, with the folders if they are fetched."""
        luggage: list[bytes | None] = []
        folder = step.folder(source=self._charter.source)
        if output is not None and folder is not None:
            luggage.append(pack(folder) if answer.has_trunk else None)
        for asked, made in zip(order.step.ending, step.ending, strict=True):
            run = run_directory(made.recipe, source=self._charter.source)
            if asked.recipe != made.recipe and (run / RECORD).exists():
                restore_places(run, asked.recipe)
            if output is not None:
                luggage.append(pack(run) if (run / RECORD).exists() else None)
        done = tuple(replace(each, job=job) for each, job in zip(answer.done, order.step.ending, strict=True))
        return replace(answer, done=done, luggage=tuple(luggage))

    def _wait_until_free(self, step: Step) -> None:
        """Waits while one who was given up is still at work in the folders of `step`."""
        source = self._charter.source
        folders = [run_directory(job.recipe, source=source) for job in step.ending]
        trunk = step.folder(source=source)
        folders += [] if trunk is None else [trunk]
        until = time.monotonic() + FREE_WITHIN
        while any(map(is_held, folders)) and time.monotonic() < until and self._stop.reason is None:
            time.sleep(0.5)


def _collected(making: Generator[Done, None, Checkpoint | None]) -> tuple[list[Done], Checkpoint | None]:
    done = []
    while True:
        try:
            done.append(next(making))
        except StopIteration as ended:
            end: Checkpoint | None = ended.value
            return done, end


def _checkpoint(trunk: Trunk | None, luggage: bytes | None, output: Path | None) -> Checkpoint | None:
    """Returns the checkpoint to go on from; None where there is none, or none that is whole."""
    if trunk is None:
        return None
    folder = trunk.folder
    if output is not None:
        if luggage is None:
            return None
        folder = output / "given" / trunk.folder.name
        unpack(luggage, folder)
    elif not is_seen(folder):
        return None
    found = checkpoint_of(folder, trunk.until)
    return found if isinstance(found, Checkpoint) else None
