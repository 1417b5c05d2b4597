"""What a worker elsewhere must have the same of for its runs to be those that this machine would make."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from finetune.training.software import LIBRARIES, package_hash, version_of

if TYPE_CHECKING:
    from finetune.recipe import Recipe

MOST_TOLD = 3


@dataclass(frozen=True)
class Findings:
    """What one machine has. `package`: the SHA-256 of our own sources; `versions`: of Python and the libraries;
    `sizes`: each file in bytes, each folder in entries, None for what isn't there."""

    package: str
    versions: Mapping[str, str]
    sizes: Mapping[str, int | None]


def findings(places: Iterable[str]) -> Findings:
    """Returns what this machine has, of files and folders those in `places`."""
    return Findings(package_hash(), versions(), {place: _size(Path(place)) for place in places})


def versions() -> dict[str, str]:
    """Returns the versions of Python, to its second number, and of the libraries that decide what a run computes."""
    libraries = {name: version_of(name) or "none" for name in (*LIBRARIES, "peft")}
    return {"Python": ".".join(platform.python_version_tuple()[:2])} | libraries


def _size(place: Path) -> int | None:
    try:
        return sum(1 for _ in place.iterdir()) if place.is_dir() else place.stat().st_size
    except OSError:
        return None


def inputs_of(recipes: Iterable[Recipe]) -> list[str]:
    """Returns the files and folders that runs of `recipes` read."""
    return sorted({str(place) for recipe in recipes for place in _inputs(recipe)})


def _inputs(recipe: Recipe) -> Iterator[Path | str]:
    for places in getattr(recipe.data, "files", {}).values():
        yield from places
    yield from getattr(recipe.data, "folders", {}).values()
    if recipe.model.path is not None:
        yield recipe.model.path


def differences(here: Findings, there: Findings) -> list[str]:
    """Returns in which ways `there` isn't as `here`, in words; none where runs would be the same."""
    faults = []
    if there.package != here.package:
        faults.append(
            f"finetune is another there (the hash of its files is {there.package[:8]}, here {here.package[:8]}): "
            "install the same version"
        )
    others = [
        f"{name} is {there.versions.get(name, 'none')} there and {own} here"
        for name, own in here.versions.items()
        if there.versions.get(name, "none") != own
    ]
    if others:
        faults.append(f"{', '.join(others)}: install the same")
    for place, size in here.sizes.items():
        found = there.sizes.get(place)
        if found is None and size is not None:
            faults.append(f"{place} isn't there: put it on a file system that all machines share, or on each of them")
        elif found != size:
            faults.append(f"{place} is another there, of the same name: use one that all machines share")
    return faults


def refusal(faults: Mapping[str, Iterable[str]]) -> str:
    """Returns one message on what is wrong with which machines, by name; those that lack the same are told together."""
    machines: dict[str, list[str]] = {}
    for machine, problems in faults.items():
        for problem in problems:
            machines.setdefault(problem, []).append(machine)
    return "; ".join(f"on {_several(names)}: {problem}" for problem, names in machines.items())


def _several(machines: list[str]) -> str:
    shown = ", ".join(machines[:MOST_TOLD])
    return shown if len(machines) <= MOST_TOLD else f"{shown} and {len(machines) - MOST_TOLD:,} more"
