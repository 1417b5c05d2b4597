"""One recipe over another: what a child takes from its base, and what an override takes from the file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from finetune.optimizers import OPTIMIZERS
from finetune.recipe.nodes import Node
from finetune.schedules import SCHEDULES
from finetune.schedules.base import TELLING
from finetune.tasks import TASKS

# Blocks whose name chooses a class, and the tables it chooses from.
NAMED: dict[str, Mapping[str, type]] = {"schedule": SCHEDULES, "optimizer": OPTIMIZERS, "task": TASKS}
_SHORT_FORMS = {**dict.fromkeys(NAMED, "name"), "adapter": "name", "model": "hub"}

# The name of a block that doesn't say one.
DEFAULT_NAMES = {"schedule": "cosine", "task": "text_classification"}


def settings_of(kind: type) -> list[str]:
    """Returns the names of the settings that a class of one of the tables has."""
    return ["name", *(field.name for field in fields(kind) if field.name != "name")]


def normalized(root: Node, folder: Path) -> Node:
    """Returns the recipe's tree with short forms written out and the paths of inputs absolute, from `folder`.

    `schedule: step` means `schedule: {name: step}`, `schedule: {phases: …}` has the name phases, `model: x` means
    `model: {hub: x}`, `adapter: x` means `adapter: {name: x}`, and one file or target a list of one.
    """
    if not isinstance(root.value, dict):
        return root
    blocks = {key: _written_out(key, node) for key, node in root.value.items()}
    if "model" in blocks:
        blocks["model"] = _changed(blocks["model"], "path", lambda node: _absolute(node, folder))
    if "adapter" in blocks:
        blocks["adapter"] = _changed(blocks["adapter"], "targets", lambda node: _as_list(node) if node.value else node)
    if "plugins" in blocks:
        blocks["plugins"] = _listed(blocks["plugins"], folder)
    if "data" in blocks:
        blocks["data"] = _changed(blocks["data"], "files", lambda node: _files(node, folder))
        blocks["data"] = _changed(blocks["data"], "folders", lambda node: _folders(node, folder))
    if "study" in blocks:
        blocks["study"] = _changed(blocks["study"], "grid", _with_dotted_keys)
    return Node(blocks, root.place)


def _written_out(key: str, node: Node) -> Node:
    if key in _SHORT_FORMS and isinstance(node.value, str):
        return Node({_SHORT_FORMS[key]: node}, node.place)
    if key == "schedule" and isinstance(node.value, dict) and "name" not in node.value:
        for setting, name in TELLING.items():
            if setting in node.value:
                return Node({"name": Node(name, node.place), **node.value}, node.place)
    return node


def _changed(node: Node, key: str, change: Any) -> Node:
    if not isinstance(node.value, dict) or key not in node.value:
        return node
    return Node({**node.value, key: change(node.value[key])}, node.place)


def _with_dotted_keys(grid: Node) -> Node:
    return Node(dict(_dotted(grid)), grid.place) if isinstance(grid.value, dict) else grid


def _dotted(grid: Node, prefix: str = "") -> Iterator[tuple[str, Node]]:
    for key, node in grid.value.items():
        if isinstance(node.value, dict):
            yield from _dotted(node, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", node


def _files(node: Node, folder: Path) -> Node:
    if not isinstance(node.value, dict):
        return node
    return Node({split: _listed(files, folder) for split, files in node.value.items()}, node.place)


def _folders(node: Node, folder: Path) -> Node:
    if not isinstance(node.value, dict):
        return node
    return Node({split: _absolute(place, folder) for split, place in node.value.items()}, node.place)


def _listed(files: Node, folder: Path) -> Node:
    return Node([_absolute(file, folder) for file in _as_list(files).value], files.place)


def _as_list(node: Node) -> Node:
    return node if isinstance(node.value, list) else Node([node], node.place)


def _absolute(node: Node, folder: Path) -> Node:
    if not isinstance(node.value, str) or "://" in node.value:  # a URL stays one, to be refused as such
        return node
    # normpath and not resolve: a link stays the path that was given.
    return Node(str(_normal(folder / expanded(node.value))), node.place)


def expanded(path: str) -> Path:
    """Returns `path` with the home of ~ or ~USER in its place; as it stands, where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def _normal(path: Path) -> Path:
    return Path(os.path.normpath(path.absolute()))


def merged(base: Node, child: Node, path: tuple[str, ...] = ()) -> Node:
    """Returns `child` over `base`: what the child says stands, and what it doesn't say is inherited.

    Where the name of a schedule, an optimizer or a task changes, only the settings that the new one also has are
    inherited; where the model or the data come from elsewhere, nothing that belonged to the old place is.
    """
    if not (isinstance(base.value, dict) and isinstance(child.value, dict)):
        return child
    inherited = _inherited(base.value, child.value, path[0]) if len(path) == 1 else base.value
    result = dict(inherited)
    for key, node in child.value.items():
        result[key] = merged(result[key], node, (*path, key)) if key in result else node
    return Node(result, child.place)


def _inherited(base: dict[str, Node], child: dict[str, Node], block: str) -> dict[str, Node]:
    if block in NAMED and _changes(base, child, "name"):
        kind = NAMED[block].get(str(child["name"].value))
        known = settings_of(kind) if kind else []
        return {key: node for key, node in base.items() if key in known}
    if block in {"model", "data"}:
        if any(_changes(base, child, place) for place in ("hub", "path")):
            return {}
        if any(place in child and place not in base for place in ("files", "folders")):
            return {}
    return base


def named(root: Node) -> Node:
    """Returns the recipe's tree with the default name in each block that has settings but no name."""
    blocks = dict(root.value)
    for block, name in DEFAULT_NAMES.items():
        node = blocks.get(block)
        if node is not None and isinstance(node.value, dict) and "name" not in node.value:
            blocks[block] = Node({"name": Node(name, node.place), **node.value}, node.place)
    return Node(blocks, root.place)


def _changes(base: dict[str, Node], child: dict[str, Node], key: str) -> bool:
    return key in child and (key not in base or base[key].value != child[key].value)
