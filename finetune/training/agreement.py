"""What the processes of a run have to agree on before it begins: recipe, packages, settings, data, weights, output."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.errors import RecordError
from finetune.training.software import LIBRARIES, package_hash, version_of

if TYPE_CHECKING:
    from finetune.recipe import Recipe
    from finetune.training.layout import Layout
    from finetune.training.meeting import Meeting, Statement
    from finetune.training.plan import Plan

PACKAGES = (*LIBRARIES, "peft", "deepspeed", "finetune-schedules")
SETTINGS = (
    "ACCELERATE_MIXED_PRECISION",
    "ACCELERATE_USE_DEEPSPEED",
    "ACCELERATE_USE_FSDP",
    "ACCELERATE_USE_PARALLELISM_CONFIG",
    "FSDP_",
    "PARALLELISM_CONFIG_",
)
PROBE = ".shared"
SEEN_WITHIN = 90.0
"""Seconds; by default NFS may remember for 60 that a file isn't there."""


def what_is_run(recipe: Recipe, layout: Layout, **options: Any) -> Statement:
    """Returns what is known before any data is read; `options`: of the call."""
    return {
        "processes": layout.processes,
        "device": layout.device.type,
        "recipe": recipe.flatten(),
        "options": options,
        "packages": {"python": platform.python_version(), **{name: version_of(name) for name in PACKAGES}},
        "finetune's own files": package_hash()[:16],
        "environment": {name: value for name, value in sorted(os.environ.items()) if name.startswith(SETTINGS)},
    }


def what_is_planned(plan: Plan, *, resumed_at: int) -> Statement:
    """Returns what is known when all is ready for the first update."""
    return {
        "data": {split: identity.fingerprint for split, identity in plan.material.identities.items()},
        "weights of the model": plan.model.initial_weights,
        "updates": plan.horizon.total_steps,
        "updates already made": resumed_at,
        "precision": plan.precision,
    }


def check_shared(run: Path, meeting: Meeting) -> None:
    """Raises RecordError, or DisagreementError, where a process doesn't see what the first one writes into `run`."""
    probe = run / PROBE

    def read() -> str | None:
        try:
            return probe.read_text(encoding="utf-8")
        except OSError:
            return None

    try:
        if not meeting.see(lambda token: probe.write_text(token, encoding="utf-8"), read, seconds=SEEN_WITHIN):
            raise RecordError(
                f"{run}: what the first process wrote there can't be seen here; output must be a folder on a file "
                "system that all machines of a run share, under the same path"
            )
        meeting.agree(dict)
    finally:
        if meeting.is_led_here:
            probe.unlink(missing_ok=True)
