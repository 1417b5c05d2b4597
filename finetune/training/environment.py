"""What a run ran on."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from finetune.evaluation.record import Environment
from finetune.training.software import LIBRARIES, version_of

if TYPE_CHECKING:
    from finetune.training.trainer import ScheduledTrainer

NOT_INSTALLED = "not installed"
DISTRIBUTIONS = ("finetune-schedules", *LIBRARIES)


def describe_environment(trainer: ScheduledTrainer) -> Environment:
    """Returns the hardware, the versions and the precision in force for `trainer`."""
    device = trainer.args.device
    distributions = DISTRIBUTIONS if trainer.adapter is None else (*DISTRIBUTIONS, "peft")
    versions = {name: version_of(name) or NOT_INSTALLED for name in distributions}
    return Environment(
        device=device.type,
        hardware=describe_hardware(device),
        processes=trainer.args.world_size,
        threads=torch.get_num_threads(),
        accumulation=trainer.args.gradient_accumulation_steps * trainer.micro_batches.pieces,
        precision=effective_precision(trainer),
        platform=platform.platform(),
        versions={"python": platform.python_version()} | versions,
    )


def effective_precision(trainer: ScheduledTrainer) -> str:
    """Returns the format in force, which Accelerate's own configuration can set against the recipe's."""
    in_force: str = trainer.accelerator.mixed_precision
    return "fp32" if in_force == "no" else in_force


def describe_hardware(device: torch.device) -> str:
    """Returns the name of `device`: of the GPU, or as `describe_processor` does."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else describe_processor()


def describe_processor() -> str:
    """Returns the name of the CPU and the number of its cores."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({len(names)} cores)" if names else platform.machine()
