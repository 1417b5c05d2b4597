"""What a run goes on from: its own newest checkpoint, or that of another run, made under other settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from finetune.errors import RecipeError, RecordError, ResumeError, listed
from finetune.evaluation.record import RECIPE, RECORD, Continued
from finetune.keys import IMMATERIAL, PLACES, differences, is_among, is_scheduled
from finetune.recipe import read_settings
from finetune.training.checkpoints import CHECKPOINTS, Checkpoint, checkpoint_of, newest_checkpoint, step_of
from finetune.training.run_directory import plugin_fingerprints
from finetune.training.run_lock import is_held

if TYPE_CHECKING:
    from finetune.recipe import Recipe
    from finetune.schedules.continuation import ChangePolicy
    from finetune.training.plan import Plan

MADE_FROM = {"initial_weights": "weights of the model", "plugins": "plugins"}
Resume = Literal["auto", "never"] | Path
Changes = Mapping[str, tuple[Any, Any]]
MOST_TOLD = 3


@dataclass(frozen=True)
class Start:
    """Where a run begins: after `checkpoint`, or at its first update. `on_change`: how its schedule takes over."""

    checkpoint: Checkpoint | None = None
    on_change: ChangePolicy = "refuse"
    continued: Continued | None = None

    @classmethod
    def at_end_of(cls, trunk: Checkpoint) -> Start:
        """Returns the start of a run whose updates so far were made by a run that it shares them with."""
        shared = Continued(run=trunk.run.name, step=trunk.step, on_change="share", changed={})
        return cls(trunk, on_change="extend", continued=shared)

    @property
    def step(self) -> int:
        """The updates that were made before."""
        return self.checkpoint.step if self.checkpoint else 0


def find_start(
    recipe: Recipe,
    run: Path,
    own: Checkpoint | None,
    *,
    place: Path | None,
    on_change: ChangePolicy,
    say: Callable[[str], None],
) -> Start:
    """Returns where the run of `recipe` in the directory `run` begins.

    `own`: the checkpoint there that it may go on from. `place`: the directory of another run, or one of its
    checkpoints, whose recipe may differ in the schedule, its length and its peaks, if `on_change` says how; a run that
    went on from there goes on from its own checkpoints later. `say` is told of what is passed over. Raises ResumeError,
    with the differences, where there is nothing to go on from or too much has changed.
    """
    if place is None or (own is not None and place.resolve() == run.resolve()):
        return _own(own)
    other = _checkpoint_at(place, say=say)
    if own is None:
        return _from_other(recipe, other, on_change=on_change)
    if own.continued and own.continued.run == other.run.name:
        return _own(own)
    raise ResumeError(
        f"{run}: holds an interrupted run of its own, after update {own.step}; go on with it without --resume, or pass "
        "--repeat too, to begin anew from the other"
    )


def _own(checkpoint: Checkpoint | None) -> Start:
    continued = checkpoint.continued if checkpoint else None
    # What it follows since it went on from another run is in the checkpoint, and in no recipe.
    return Start(checkpoint, on_change="keep" if continued else "refuse", continued=continued)


def _checkpoint_at(place: Path, *, say: Callable[[str], None]) -> Checkpoint:
    step = step_of(place)
    if step is None:
        found = newest_checkpoint(place, say=say)
        if found is None:
            raise ResumeError(_nothing_in(place))
        return found
    at = checkpoint_of(place.resolve().parents[1], step)
    if not isinstance(at, Checkpoint):
        raise ResumeError(f"{place}: no whole checkpoint: {at}")
    return at


def _nothing_in(run: Path) -> str:
    if (run / RECORD).exists():
        return f"{run}: a run that ended, and keeps no checkpoint; only one that was interrupted can be gone on with"
    return (
        f"{run}: holds no whole checkpoint; give the directory of a run that was interrupted, or one of its checkpoints"
    )


def _from_other(recipe: Recipe, other: Checkpoint, *, on_change: ChangePolicy) -> Start:
    changes = changes_since(other.run, recipe)
    fixed = {key: values for key, values in changes.items() if not is_scheduled(key)}
    title = f"{other.run}: made under another recipe:\n{shown(changes)}\n"
    if fixed:
        raise ResumeError(
            f"{title}A run can't go on under another {listed(fixed)}; leave that as it was, or begin anew"
        )
    if changes and on_change == "refuse":
        raise ResumeError(
            f"{title}Say how the new schedule takes over with --on-change: keep (the old one), extend (the new one, as "
            "if from the start), restart (the new one over the updates left) or branch (a cooldown to the new horizon)"
        )
    continued = Continued(run=other.run.name, step=other.step, on_change=on_change, changed=dict(changes))
    return Start(other, on_change=on_change, continued=continued if changes else other.continued)


def changes_since(run: Path, recipe: Recipe) -> Changes:
    """Returns the keys in which `recipe` differs from that of `run`, with both values, but for those that can't matter.

    Data, weights and plugins are known by their content, which is compared when they are read.
    """
    found = differences(read_settings(run / RECIPE), recipe.flatten())
    return {key: values for key, values in found.items() if not is_among(key, (*IMMATERIAL, *PLACES, "plugins"))}


def shown(changes: Changes) -> str:
    """Returns a line for each change."""
    return "\n".join(f"  {key}: {_in_words(was)}, now {_in_words(now)}" for key, (was, now) in changes.items())


def _in_words(value: Any) -> str:
    return "none" if value is None else str(value)


def tell_of_others(recipe: Recipe, run: Path, *, say: Callable[[str], None]) -> None:
    """Tells `say` of interrupted runs beside `run` that it could go on from, the schedule alone having changed."""
    others = sorted({folder.parents[1] for folder in run.parent.glob(f"*/{CHECKPOINTS}/checkpoint-*")} - {run})
    told = 0
    for other in others:
        if told == MOST_TOLD or (other / RECORD).exists() or is_held(other):
            continue
        try:
            changes = changes_since(other, recipe)
        except RecipeError:
            continue
        if changes and all(map(is_scheduled, changes)):
            told += 1
            say(f"{other}: interrupted, under another schedule:\n{shown(changes)}\n  --resume {other} goes on from it")


def identity_of(plan: Plan) -> dict[str, Any]:
    """Returns what the checkpoints of a run are made from."""
    return {
        "data": {split: identity.fingerprint for split, identity in plan.material.identities.items()},
        "initial_weights": plan.model.initial_weights,
        "plugins": plugin_fingerprints(plan.recipe),
    }


def refuse_other_start(run: Path, was: Mapping[str, Any], plan: Plan) -> None:
    """Raises RecordError where `run` was begun with other weights or plugins, as its identity says, than `plan` has."""
    now = identity_of(plan)
    changed = [words for key, words in MADE_FROM.items() if was.get(key) != now[key]]
    if changed:
        raise RecordError(
            f"{run}: begun with other {' and '.join(changed)}, which changed since; bring back what was, or pass "
            "--repeat to begin anew"
        )
