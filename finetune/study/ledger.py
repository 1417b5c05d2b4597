"""What a study says of itself beside its runs: `study.json`, with its definition, its choices and its failures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from finetune.errors import RecordError
from finetune.evaluation.record import write_atomically
from finetune.recipe import Study, with_seed
from finetune.study.jobs import Done
from finetune.study.peaks import Choice, rule
from finetune.training import run_directory

LEDGER = "study.json"


def study_directory(study: Study) -> Path:
    """Returns where the study's runs lie."""
    recipe = study.settings[0].recipe
    return Path(recipe.output) / recipe.name


def define(study: Study, *, source: Path) -> dict[str, Any]:
    """Returns what makes the study this one: its settings, each by the name of its run with seed 0, and its seeds."""
    block = study.block.model_dump(mode="json")
    return {
        "settings": [run_directory(with_seed(setting.recipe, 0), source=source).name for setting in study.settings],
        "seeds": list(study.seeds),
        "keys": list(study.keys),
        "tuning": block["tuning"],
        "equal_area": block["equal_area"],
    }


def check_name(study: Study, *, source: Path) -> None:
    """Raises RecordError where another study has this one's name: one that this one doesn't merely add to."""
    path = study_directory(study) / LEDGER
    if not path.exists():
        return
    try:
        was = json.loads(path.read_text(encoding="utf-8"))["definition"]
        now = define(study, source=source)
        changed = [key for key in ("settings", "seeds", "keys") if not set(was[key]) <= set(now[key])]
        changed += [key for key in ("tuning", "equal_area") if was[key] != now[key]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RecordError(f"{path}: not a study's file ({error!r}); move it away to begin anew") from error
    if changed:
        raise RecordError(
            f"{path.parent}: holds another study of the name {study.name}, with other {', '.join(changed)}; give this "
            "one another name or output, or take the values of that one and add to them"
        )


def write_ledger(
    study: Study, *, source: Path, choices: Mapping[int, Choice], peaks: Mapping[int, float], failed: Iterable[Done]
) -> None:
    """Writes the study's file, whole or not at all; of a share, which knows of its own runs alone, nothing."""
    if not study.share.is_whole:
        return
    select = study.settings[0].recipe.evaluation.selecting
    direction = next((choice.direction for choice in choices.values()), None)
    content = {
        "format": 1,
        "name": study.name,
        "definition": define(study, source=source),
        "block": study.block.model_dump(mode="json"),
        "selection": {"rule": rule(study, direction), "metric": select} if direction else None,
        "choices": [choice.to_dict() for choice in choices.values()],
        "peaks": {str(number): peak for number, peak in peaks.items()},
        "failed": [{"run": done.job.label, "role": done.job.role, "problem": done.problem} for done in failed],
    }
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    write_atomically(study_directory(study) / LEDGER, lambda path: path.write_text(text, encoding="utf-8"))
