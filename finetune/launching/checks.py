"""What is known to fail before anything is started: devices, libraries and keys that aren't there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from finetune.errors import DeviceError, SettingError, counted, did_you_mean
from finetune.launching.modes import Mode

PREFIXED = ("fsdp_config", "fp8_config", "dynamo_config")
LEGACY = ("fp16", "dynamo_backend")


def visible_gpus() -> int:
    """Returns how many GPUs this process may use: none where ACCELERATE_USE_CPU says so."""
    import torch
    from accelerate.utils import parse_flag_from_env

    if parse_flag_from_env("ACCELERATE_USE_CPU"):
        return 0
    return torch.cuda.device_count() or int(torch.backends.mps.is_available())


def default_mode(gpus: int, *, machines: int) -> str:
    """Returns the shipped mode that takes all of so many GPUs."""
    if machines > 1:
        return "multi_node" if gpus else "cpu_2_processes"
    return "multi_gpu" if gpus > 1 else "single_gpu" if gpus else "cpu"


def number_of_processes(mode: Mode, asked: int | None, *, gpus: int) -> int:
    """Returns how many processes this machine has: as asked, or as the file says, or one for each GPU.

    Raises SettingError for a number that the mode can't have, and DeviceError where there are too few GPUs.
    """
    if asked is not None and asked < 1:
        raise SettingError("--processes", f"{asked} is not 1 or more")
    if not mode.is_distributed and asked not in (None, 1):
        instead = "cpu_2_processes" if mode.uses_cpu else "multi_gpu"
        raise SettingError("--processes", f"{asked}: {mode.name} is for one process; several take --on {instead}")
    if mode.uses_cpu:
        return asked or mode.processes_per_machine or 1
    gpus = mode.count_gpus(gpus)
    processes = asked or mode.processes_per_machine or (gpus if mode.is_distributed else 1)
    _check_gpus(mode, processes, gpus=gpus)
    return processes


def _check_gpus(mode: Mode, processes: int, *, gpus: int) -> None:
    hiding = [name for name in ("ACCELERATE_USE_CPU", "CUDA_VISIBLE_DEVICES") if name in os.environ]
    where = f" ({', '.join(f'{name}={os.environ[name]}' for name in hiding)})" if hiding else ""
    if not gpus:
        shards = ", which shard nothing" if mode.shards else ""
        raise DeviceError(
            f"--on: {mode.name} needs GPUs, and none can be seen{where}; without any, take --on cpu or "
            f"cpu_2_processes{shards}"
        )
    if processes > gpus:
        raise DeviceError(
            f"--processes: {processes} is more than the {counted(gpus, 'GPU')} that can be used{where}, and each "
            f"process needs one of its own; give {gpus} or fewer"
        )


def check_config(mode: Mode) -> None:
    """Raises SettingError for what Accelerate doesn't know: a key within a section it would pass over."""
    from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    options = {action.dest for action in launch_command_parser()._actions}
    for key, known in _keys(mode.config, {*ClusterConfig.__dataclass_fields__, *LEGACY}, options):
        if key not in known:
            raise SettingError("--on", f"{mode.path}: {key}: unknown key{did_you_mean(key, known)}")
    try:
        load_config_from_file(str(mode.path))
    except (ValueError, TypeError, KeyError) as error:
        raise SettingError("--on", f"{mode.path}: Accelerate can't read it: {error}") from error


def _keys(config: Mapping[str, Any], fields: set[str], options: set[str]) -> Iterator[tuple[str, set[str]]]:
    """Yields each key, written in full as Accelerate does, and those that it may be."""
    for key, value in config.items():
        yield key, fields
        section = key.removesuffix("config")
        for nested in value if isinstance(value, dict) else ():
            yield nested if key not in PREFIXED or nested.startswith(section) else f"{section}{nested}", options
