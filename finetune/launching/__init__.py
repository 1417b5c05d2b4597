"""Starting a run on several processes, GPUs or machines, by the configurations of Accelerate: `finetune launch`."""

from __future__ import annotations

from finetune.launching.checks import (
    check_config,
    default_mode,
    number_of_processes,
    visible_gpus,
)
from finetune.launching.command import Launch, build_launch
from finetune.launching.modes import Mode, find_mode
from finetune.launching.nodes import Nodes, check_rendezvous, located, nodes_of
from finetune.launching.running import run_launch

__all__ = [
    "Launch",
    "Mode",
    "Nodes",
    "build_launch",
    "check_config",
    "check_rendezvous",
    "default_mode",
    "find_mode",
    "located",
    "nodes_of",
    "number_of_processes",
    "run_launch",
    "visible_gpus",
]
