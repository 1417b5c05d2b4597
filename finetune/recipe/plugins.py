"""A user's own Python files, run when a recipe is read, for what they register."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path

from finetune.recipe.nodes import Node, Problem
from finetune.schedules.foreign import in_words


def run_plugins(node: Node | None, *, allowed: bool) -> list[Problem]:
    """Runs the files listed in `node`, a recipe's `plugins`, once each, and returns what went wrong."""
    if node is None or not isinstance(node.value, list):
        return []
    problems = []
    for file in node.value:
        if not isinstance(file.value, str):
            continue
        message = run_plugin(Path(file.value)) if allowed else _refusal(file.value)
        if message:
            problems.append(Problem(file.place, "plugins", message))
    return problems


def _refusal(path: str) -> str:
    return f"{path} is a program, which this recipe would run: read it, and pass --allow-plugins if you trust it"


def run_plugin(path: Path, *, copy: Path | None = None) -> str:
    """Runs a file, or the `copy` of one from elsewhere, as a module named after `path`; returns what went wrong, or "".

    What has the same name was run before, and isn't again.
    """
    name = f"finetune_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return ""
    file = copy or path
    found = importlib.util.spec_from_file_location(name, file)
    if not file.is_file() or found is None or found.loader is None:
        return f"{path} is not a Python file that can be read"
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    try:
        found.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a user's own program may raise anything
        del sys.modules[name]
        return f"{path} failed: {in_words(error)}"
    return ""
