"""What a study shows while it goes: a line for every run that ended, and a bar over all of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise
from types import TracebackType

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn

from finetune.errors import RunStopped, counted
from finetune.evaluation.forms import written
from finetune.recipe import Rung, Study
from finetune.study.jobs import Done
from finetune.training.progress import bar_up_to, duration, say


class StudyProgress:
    """Shows each run as it ends, with the time left: the mean time of the runs made so far, for those to come."""

    def __init__(self, study: Study, console: Console) -> None:
        self._study = study
        self._console = console
        self._ended = 0
        self._made = 0
        self._began = time.perf_counter()
        self._bar = Progress(
            TextColumn("  runs"),
            bar_up_to(30),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=study.count)

    def __enter__(self) -> StudyProgress:
        study, tuning = self._study, self._study.block.tuning
        tries = f", after {_peaks(study.rungs)} on {counted(len(tuning.seeds), 'other seed')}" if tuning else ""
        seeds, settings = counted(len(study.seeds), "seed"), counted(len(study.settings), "setting")
        say(self._console, f"{study.name}: {settings} on {seeds}{tries}: {counted(study.count, 'run')}")
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()
        if isinstance(error, KeyboardInterrupt | RunStopped):
            done = f"{self._ended:,} of {counted(self._study.count, 'run')} recorded"
            say(self._console, f"  interrupted: {done}")

    def show(self, done: Done) -> Done:
        """Shows the run that ended, and returns it."""
        self._ended += 1
        self._made += not done.found
        left = self._time_left()
        told = f"; {left}" if left else ""
        width = len(str(self._study.count))
        score = "not finite" if done.score is None else written(done.score)
        words = {"finished": score, "diverged": "diverged", "failed": f"FAILED: {done.problem}"}
        made = "recorded before" if done.found else f"{done.seconds:.1f} s"
        say(
            self._console,
            f"  {self._ended:>{width}}/{self._study.count}  {done.job.role:<6}  {done.job.label}: "
            f"{words[done.status]}  ({made}{told})",
        )
        self._bar.update(self._task, completed=self._ended, description=left)
        return done

    def _time_left(self) -> str:
        if not self._made:
            return ""
        each = (time.perf_counter() - self._began) / self._made
        return f"{duration(each * (self._study.count - self._ended))} left"


def _peaks(rungs: Sequence[Rung]) -> str:
    shorter = "".join(f" for {rung.share} of the duration, then {longer.peaks}" for rung, longer in pairwise(rungs))
    return f"{rungs[0].peaks} peak rates{shorter}{' in full' if shorter else ''}"
