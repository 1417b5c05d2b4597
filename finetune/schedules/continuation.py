"""What a run has been following, as plain values: how it is saved, compared, changed on the way, and gone on from.

A plan holds the schedule, the run's lengths, the groups' own schedules, the updates before which their rate is 0, the
peaks, what a plateau has seen, and, once the run has left its first course, `joined`: at which update, how, and from
which plan.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import fields, replace
from fractions import Fraction
from typing import Any, Literal

from finetune.errors import ResumeError, settings_within
from finetune.schedules.base import Schedule, as_schedule
from finetune.schedules.compose import Factor, Held, Sequel, Way, late
from finetune.schedules.durations import Run
from finetune.schedules.phases import Plateau

Plan = dict[str, Any]
ChangePolicy = Literal["refuse", "keep", "extend", "restart", "branch"]

_MAIN = ""


def plan_of(
    schedule: Schedule, run: Run, groups: Mapping[str, Schedule], *, starts: Mapping[str, int], peaks: list[float]
) -> Plan:
    """Returns the plan of a run that follows `schedule` from its start; checks that all schedules fit the run."""
    seen: dict[str, Any] = {}
    for name, own in {_MAIN: schedule, **groups}.items():
        if isinstance(own, Plateau):
            seen[name] = {"best": None, "bad": 0, "resting": 0, "falls": []}
    return {
        "schedule": schedule.to_dict(),
        "run": {
            field.name: str(value) if isinstance(value, Fraction) else value
            for field in fields(run)
            if (value := getattr(run, field.name)) is not None
        },
        "groups": {name: own.to_dict() for name, own in groups.items()},
        "starts": dict(starts),
        "peaks": peaks,
        "plateaus": seen,
        "joined": None,
    }


def run_of(plan: Plan) -> Run:
    """Returns the lengths of the plan's run."""
    lengths: dict[str, Any] = {
        key: Fraction(value) if isinstance(value, str) else value for key, value in plan["run"].items()
    }
    return Run(**lengths)


def starts_of(plan: Plan) -> dict[str, int]:
    """Returns the update before which the rate of a group is 0, by the names of those that have one."""
    return dict(plan.get("starts", {}))  # checkpoints from before there were any have none


def factor_for(plan: Plan, group: str, peak: float) -> Factor:
    """Returns the factor that the group called `group`, of that peak, follows over the plan's whole run.

    What the schedule asks for, whatever became of it, is multiplied by 0 before the group's start.
    """
    return late(_course(plan, group, peak), starts_of(plan).get(group, 0))


def _course(plan: Plan, group: str, peak: float) -> Factor:
    joined = plan["joined"]
    if joined is None:
        return _fresh(plan, group, peak, run_of(plan))
    at, run = joined["at"], run_of(plan)
    before = _course(joined["before"], group, peak)
    if joined["how"] == "restart":
        later = _fresh(plan, group, peak, replace(run, total_steps=run.total_steps - at))
        return Held(Sequel((0, at), (before, later)), run.total_steps)
    down = Way(before(at), min(joined["floor"], before(at)), run.total_steps - at, joined["shape"])
    return Held(Sequel((0, at), (before, down)), run.total_steps)


def momentum_for(plan: Plan, group: str) -> Factor | None:
    """Returns the momentum that the group called `group` follows, or None; a cooldown leaves it as it is."""
    joined, run, schedule = plan["joined"], run_of(plan), _schedule(plan, group)[1]
    if joined is None:
        return schedule.resolve_momentum(run)
    later = schedule.resolve_momentum(replace(run, total_steps=run.total_steps - joined["at"]))
    return Sequel((0, joined["at"]), (later, later)) if later is not None and joined["how"] == "restart" else None


def _schedule(plan: Plan, group: str) -> tuple[str, Schedule]:
    own = plan["groups"].get(group)
    return (group, as_schedule(own)) if own is not None else (_MAIN, as_schedule(plan["schedule"]))


def _fresh(plan: Plan, group: str, peak: float, run: Run) -> Factor:
    key, schedule = _schedule(plan, group)
    with settings_within(f"groups.{group}") if key else nullcontext():
        if isinstance(schedule, Plateau):
            return schedule.after(tuple(plan["plateaus"][key]["falls"]), run, peak=peak)
        return schedule.over(run, peak=peak)


def observe(plan: Plan, value: float, *, at: int, greater_is_better: bool) -> bool:
    """Tells the plan's plateaus of an evaluation after update `at`, and returns whether a rate has fallen.

    As torch's ReduceLROnPlateau with a relative threshold: an improvement resets the count of bad evaluations, which
    aren't counted while resting, and a count above the patience makes the rate fall.
    """
    fallen = False
    for key, seen in plan["plateaus"].items():
        schedule = _schedule(plan, key)[1] if key else as_schedule(plan["schedule"])
        assert isinstance(schedule, Plateau)  # noqa: S101 - `plan_of` listed it as one
        better = _is_better(value, seen["best"], schedule.threshold, greater_is_better=greater_is_better)
        if better:
            seen["best"] = value
        seen["bad"] = 0 if better or seen["resting"] else seen["bad"] + 1
        seen["resting"] = max(0, seen["resting"] - 1)
        if seen["bad"] > schedule.patience:
            seen["falls"].append(at)
            seen.update(bad=0, resting=schedule.rest)
            fallen = True
    return fallen


def _is_better(value: float, best: float | None, threshold: float, *, greater_is_better: bool) -> bool:
    if best is None or math.isnan(best):
        return not math.isnan(value)
    sign = 1 if greater_is_better else -1
    return sign * value > sign * best + threshold * abs(best)


def cooled_down(plan: Plan, *, at: int, steps: int, shape: str, floor: float) -> Plan:
    """Returns the plan that leaves `plan` after update `at` and cools down over `steps` updates, then ends."""
    run = {**plan["run"], "total_steps": at + steps}
    return {**plan, "run": run, "joined": _joined(plan, at, "cooldown", shape=shape, floor=floor)}


def go_on_from(saved: Plan, own: Plan, *, at: int, policy: ChangePolicy) -> Plan:
    """Returns the plan of a run resumed after update `at` that followed `saved` and is now described by `own`.

    Raises ResumeError with the differences, if there are any, under the policy "refuse"; and where a run is to be
    restarted or branched off at an update that its new horizon doesn't reach.
    """
    changes = list(_differences(_described(saved), own))
    if not changes or policy == "keep":
        return saved
    if policy == "refuse":
        raise ResumeError(
            f"this run was saved after update {at} under another schedule:\n"
            + "\n".join(f"  {key}: {_shown(was)}, now {_shown(now)}" for key, was, now in changes)
            + "\nGo on with what it had; or set on_change to keep (the old one), extend (the new one, as if from the "
            "start), restart (the new one over the updates left) or branch (a cooldown to the new horizon)"
        )
    if policy == "extend":
        return {**own, "plateaus": {key: saved["plateaus"].get(key, seen) for key, seen in own["plateaus"].items()}}
    if own["run"]["total_steps"] <= at:
        raise ResumeError(
            f"on_change {policy}: the run of {own['run']['total_steps']} updates ends before update {at}, "
            "after which it was saved: give it more"
        )
    if policy == "branch":
        floor = own["schedule"].get("floor", 0.0)
        return {**own, "peaks": saved["peaks"], "joined": _joined(saved, at, "branch", shape="sqrt", floor=floor)}
    return {**own, "joined": _joined(saved, at, "restart")}


def _joined(before: Plan, at: int, how: str, **settings: Any) -> Plan:
    return {"at": at, "how": how, "before": before, **settings}


def _described(plan: Plan) -> Plan:
    """Returns what the run that now follows `plan` was described by: a cooldown on request was no description."""
    joined = plan["joined"]
    return _described(joined["before"]) if joined is not None and joined["how"] == "cooldown" else plan


def _differences(saved: Plan, own: Plan) -> Iterator[tuple[str, Any, Any]]:
    for part in ("schedule", "run"):
        for key in dict.fromkeys([*saved[part], *own[part]]):
            was, now = saved[part].get(key), own[part].get(key)
            if was != now and (part == "schedule" or key == "total_steps" or _is_felt(saved, own)):
                yield f"{part}.{key}" if part == "schedule" else key, was, now
    if saved["groups"] != own["groups"]:
        yield "groups", saved["groups"], own["groups"]
    if starts_of(saved) != starts_of(own):
        yield "first updates of groups", starts_of(saved), starts_of(own)
    if own["peaks"] and saved["peaks"] != own["peaks"]:
        yield "peak rates", saved["peaks"], own["peaks"]


def _is_felt(saved: Plan, own: Plan) -> bool:
    """Whether the two runs' units make a difference to any rate."""
    groups = [_MAIN, *own["groups"]]
    import numpy as np

    steps = np.arange(own["run"]["total_steps"] + 1)
    return any(
        not np.array_equal(factor_for(saved, group, 1.0)(steps), factor_for(own, group, 1.0)(steps)) for group in groups
    )


def _shown(value: Any) -> str:
    if isinstance(value, list) and len(value) > 4:
        return f"{', '.join(map(str, value[:3]))}, … ({len(value)} groups)"
    return str(value)
