"""The accelerate command of a launch, in words and with the environment that it needs."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from finetune.launching.modes import Mode
from finetune.launching.nodes import Nodes

SCRIPT = Path(__file__).resolve().parents[1] / "run.py"


@dataclass(frozen=True)
class Launch:
    """A command of accelerate: `words` after those of `environment`; `nodes` are those that it joins."""

    words: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    nodes: Nodes = field(default_factory=Nodes)

    def __str__(self) -> str:
        """Returns the command as a shell takes it."""
        set_before = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        return " ".join([*set_before, shlex.join(self.words)])


def build_launch(mode: Mode, *, processes: int, nodes: Nodes, arguments: Sequence[str]) -> Launch:
    """Returns the command that runs a recipe: `arguments` are those of `finetune run`.

    `processes`: on this machine; all machines of `nodes` have as many.
    """
    words = ["accelerate", "launch", "--config_file", _from_here(mode.path)]
    if mode.is_distributed:
        words += ["--num_processes", str(processes * nodes.machines)]
    if nodes.machines > 1 and nodes.rendezvous is not None:
        words += ["--num_machines", str(nodes.machines), "--machine_rank", str(nodes.rank)]
        words += ["--main_process_ip", nodes.rendezvous.host, "--main_process_port", str(nodes.rendezvous.port)]
        # Accelerate reads neither from a configuration, and torch would guess the host by comparing names.
        words += ["--rdzv_backend", "c10d"]
        words += ["--rdzv_conf", f"join_timeout={nodes.join_timeout},is_host={str(nodes.rank == 0).lower()}"]
    if nodes.max_restarts:
        words += ["--max_restarts", str(nodes.max_restarts)]
    return Launch((*words, _from_here(SCRIPT), *arguments), _environment(mode, nodes), nodes)


def _environment(mode: Mode, nodes: Nodes) -> dict[str, str]:
    environment = {}
    if mode.uses_cpu and mode.is_distributed:
        # Processes that Accelerate starts side by side on CPUs would look for GPUs all the same.
        environment["ACCELERATE_USE_CPU"] = "true"
    if nodes.machines > 1:
        # The store that torch would share is looked for where it was at first, by machines that come later in vain.
        environment["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
        places = {"PET_LOCAL_ADDR": nodes.address, "GLOO_SOCKET_IFNAME": nodes.interface}
        environment |= {name: place for name, place in places.items() if place and name not in os.environ}
    return environment


def _from_here(path: Path) -> str:
    """Returns `path` as it is seen from the current folder, where it lies in there."""
    absolute, here = path.absolute(), Path.cwd()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute)
