"""Runs, from recipe to record; and trunks, the updates that several runs share."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from finetune.errors import RecordError
from finetune.evaluation.record import RECORD, RunRecord, StudyPart, read_record
from finetune.schedules.continuation import ChangePolicy
from finetune.schedules.settings import one_of
from finetune.training.adapters import check_adapter
from finetune.training.agreement import check_shared, what_is_planned, what_is_run
from finetune.training.checkpoints import Checkpoint, newest_checkpoint, read_identity
from finetune.training.layout import layout_of
from finetune.training.material import Library, RawData
from finetune.training.meeting import LONG_PATIENCE, meeting_of_this_run
from finetune.training.one_run import OneRun
from finetune.training.plan import make_plan
from finetune.training.progress import say, show_results
from finetune.training.resuming import Resume, Start, find_start, identity_of, refuse_other_start, tell_of_others
from finetune.training.run_directory import claim, run_directory
from finetune.training.run_lock import held
from finetune.training.stopping import StopRequest
from finetune.training.tracking import check_trackers

if TYPE_CHECKING:
    from rich.console import Console

    from finetune.recipe import Recipe
    from finetune.training.layout import Layout
    from finetune.training.meeting import Meeting


def fine_tune(
    recipe: Recipe,
    *,
    source: Path,
    console: Console,
    repeat: bool = False,
    resume: Resume = "auto",
    on_change: ChangePolicy = "refuse",
    study: StudyPart | None = None,
    trunk: Checkpoint | None = None,
    library: Library | None = None,
    stop: StopRequest | None = None,
) -> RunRecord:
    """Runs `recipe`, read from the file `source`, and returns its record, which lies in `run_directory`.

    A run already recorded on the same data is not run again unless `repeat`. `resume`: "auto", one that was interrupted
    goes on from its newest whole checkpoint; "never", it begins anew; or the directory of another run, or one of its
    checkpoints, to go on from, with `on_change` as for `make_scheduler` where the schedule, the length or the peaks
    are others. `study`: what the run is for, if it is part of one; `trunk`: what `train_trunk` made of its first
    updates, to go on from unless it has come as far itself. `library`: holds data that other runs have read.
    `stop`: hears what is to stop the run, where it isn't the run alone that is to stop.
    Under a launcher every process calls this; the main one writes and speaks. On SIGTERM, Ctrl-C or the end of its
    launcher a run saves a checkpoint and raises RunStopped. Raises FinetuneError for whatever the recipe, the data,
    the model or the machine can't give, before training, where the run can't be written on the way, and, as RunError,
    for what befalls its processes.
    """
    one_of(get_args(ChangePolicy))("on-change", on_change)
    started = datetime.now(UTC)
    with ExitStack() as lock:
        with meeting_of_this_run().open() as meeting:
            run = run_directory(recipe, source=source)
            layout = layout_of(recipe)
            console.quiet = console.quiet or not layout.is_main
            library = library or Library()
            recorded = not repeat and (run / RECORD).exists()
            if not recorded:
                check_trackers(recipe.tracking)
                check_adapter(recipe.adapter)
            options = {"repeat": repeat, "resume": str(resume), "on_change": on_change, "already recorded": recorded}
            meeting.agree(lambda: what_is_run(recipe, layout, **options))
            data = library.data(recipe)
            if recorded:
                return _recorded(run, data, console)
            tell = partial(say, console)
            _take(run, lock, layout, meeting)
            own = None if repeat or resume == "never" else newest_checkpoint(run, say=tell)
            place = resume if isinstance(resume, Path) else None
            start = find_start(recipe, run, own, place=place, on_change=on_change, say=tell)
            if trunk is not None and start.step < trunk.step:
                start = Start.at_end_of(trunk)
            if start.checkpoint is None and study is None and layout.is_main:
                tell_of_others(recipe, run, say=tell)
            identity = read_identity(start.checkpoint.run) if start.checkpoint else {}
            if identity:
                _refuse_other_data(run, identity["data"], data)
            plan = make_plan(recipe, run=run, layout=layout, library=library)
            if identity:
                refuse_other_start(run, identity, plan)
            meeting.agree(lambda: what_is_planned(plan, resumed_at=start.step), seconds=LONG_PATIENCE)
        stop = stop or StopRequest()
        return OneRun(plan, study=study, started=started, start=start, stop=stop, console=console).run()


def _take(run: Path, lock: ExitStack, layout: Layout, meeting: Meeting) -> None:
    """Makes the directory `run` and holds it by `lock`; raises FinetuneError where not all processes see the same."""
    if layout.is_main:
        claim(run)
        lock.enter_context(held(run))
    check_shared(run, meeting)


def train_trunk(
    recipe: Recipe,
    *,
    folder: Path,
    until: int,
    trunk: Checkpoint | None = None,
    library: Library,
    console: Console,
    stop: StopRequest,
) -> Checkpoint | None:
    """Makes the first `until` updates of `recipe`, that several runs share, and returns the checkpoint after them.

    It lies in `folder`, where a trunk that was interrupted goes on; nothing is recorded. `trunk`: what it goes on from
    itself. Returns None where it diverges, which each of the runs then has to see for itself. Raises as `fine_tune`.
    """
    with ExitStack() as lock:
        with meeting_of_this_run().open() as meeting:
            layout = layout_of(recipe)
            meeting.agree(lambda: what_is_run(recipe, layout, until=until))
            _take(folder, lock, layout, meeting)
            plan = make_plan(recipe, run=folder, layout=layout, library=library)
            own = newest_checkpoint(folder, say=partial(say, console))
            if own is not None and read_identity(folder) != identity_of(plan):
                own = None
            made = own.step if own else 0
            meeting.agree(lambda: what_is_planned(plan, resumed_at=made), seconds=LONG_PATIENCE)
        if own is not None and own.step == until:
            return own
        start = Start(own) if own is not None else Start.at_end_of(trunk) if trunk else Start()
        return OneRun(
            plan, study=None, started=datetime.now(UTC), start=start, stop=stop, console=console, until=until
        ).run_trunk(until)


def _recorded(run: Path, data: RawData, console: Console) -> RunRecord:
    record = read_record(run)
    was = {split: identity.fingerprint for split, identity in record.identity.data.items()}
    _refuse_other_data(run, was, data)
    say(console, f"{run}: already recorded; --repeat runs it again")
    show_results(record, console)
    return record


def _refuse_other_data(run: Path, was: Mapping[str, str], data: RawData) -> None:
    changed = [split for split, fingerprint in data.fingerprints.items() if was.get(split) != fingerprint]
    if changed:
        raise RecordError(
            f"{run}: made on other data: the {', '.join(changed)} split has changed since; give the recipe another "
            "name or output to keep both, or pass --repeat to begin anew"
        )
