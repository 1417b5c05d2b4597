"""What each run takes of a machine, and how many one has room for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Resources = Mapping[str, float]
"""What a machine has, or a run takes, by Ray's names: CPU, GPU, and others that don't matter here."""


@dataclass(frozen=True)
class Portion:
    """`cpus` CPUs, and as much of a GPU as `gpus` says, from 0 to 1."""

    cpus: int
    gpus: float

    def fits_in(self, resources: Resources) -> int:
        """Returns how many runs there is room for at once where all `resources` are free."""
        by_cpus = int(resources.get("CPU", 0) // self.cpus)
        if not self.gpus:
            return by_cpus
        return min(by_cpus, int(resources.get("GPU", 0)) * int(1 / self.gpus + 1e-9))

    def __str__(self) -> str:
        return resources_in_words({"CPU": self.cpus, "GPU": self.gpus})


def resources_in_words(resources: Resources) -> str:
    """Returns the CPUs and GPUs for people."""
    words = []
    for kind in ("CPU", "GPU"):
        count = resources.get(kind, 0)
        if count or kind == "CPU":
            words.append(
                f"{count:g} {kind}{'s' * (count != 1)}" if count >= 1 or not count else f"{count:g} of a {kind}"
            )
    return " and ".join(words)


def gpus_of_each(asked: float | None, machines: Iterable[Resources]) -> float:
    """Returns the share of a GPU that each run takes: what was asked for, else one where there are any.

    Where ACCELERATE_USE_CPU keeps runs off them it is none.
    """
    if asked is not None:
        return asked
    keeps_off = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "y", "on", "t")
    return 0.0 if keeps_off or not any(resources.get("GPU", 0) for resources in machines) else 1.0
