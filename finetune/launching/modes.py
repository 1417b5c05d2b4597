"""The ways to launch a run: configurations of Accelerate, shipped ones by name and a user's own by path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.errors import SettingError, did_you_mean, listed
from finetune.shipped import shipped_configs

SUFFIXES = (".yaml", ".yml", ".json")
LEFT_OUT = {
    "DEEPSPEED": "DeepSpeed keeps the optimizer's state in forms that a run's checkpoints can't hold",
    "MEGATRON_LM": "Megatron-LM trains models of its own making",
    "MULTI_CPU": "Accelerate starts one process alone by it; take MULTI_GPU and use_cpu: true, as in cpu_2_processes",
}
NOT_SHIPPED = {
    "deepspeed": LEFT_OUT["DEEPSPEED"],
    "context_parallel": "each process of a run takes examples of its own, and parts of none",
    "tensor_parallel": "each process of a run takes examples of its own, and parts of none",
}


@dataclass(frozen=True)
class Mode:
    """One configuration of Accelerate: `name` is what the user calls it, `config` what stands in the file."""

    name: str
    path: Path
    config: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """Accelerate's word for how processes work together, "NO" for one process."""
        return str(self.config["distributed_type"])

    @property
    def is_distributed(self) -> bool:
        """Whether it starts processes through torch's elastic agent, which one process alone doesn't need."""
        return self.kind != "NO"

    @property
    def uses_cpu(self) -> bool:
        """Whether it keeps off the GPUs."""
        return bool(self.config.get("use_cpu"))

    @property
    def shards(self) -> bool:
        """Whether each process holds a part of the model only."""
        return self.kind == "FSDP"

    @property
    def machines(self) -> int:
        """How many machines the file speaks of."""
        return self._whole("num_machines") or 1

    @property
    def processes_per_machine(self) -> int | None:
        """How many processes the file speaks of, on each of its machines; None where it leaves that open."""
        total = self._whole("num_processes")
        return None if total is None else max(1, total // self.machines)

    def count_gpus(self, visible: int) -> int:
        """Returns how many of the GPUs that can be seen the file allows."""
        allowed = str(self.config.get("gpu_ids") or "all")
        return visible if allowed == "all" else min(visible, len(allowed.split(",")))

    def _whole(self, key: str) -> int | None:
        """Returns a whole number of the file, None where it isn't there; raises SettingError for anything else."""
        value = self.config.get(key)
        if value is not None and (not isinstance(value, int) or value < 1):
            raise SettingError("--on", f"{self.path}: {key}: {value!r} is not a whole number from 1 on")
        return value


def find_mode(on: str) -> Mode:
    """Returns the mode called `on`: a shipped configuration's name, or the path of another.

    Raises SettingError where there is none, or where a run can't be launched by it.
    """
    shipped = shipped_configs()
    is_path = on.endswith(SUFFIXES) or "/" in on
    if not is_path and on not in shipped:
        for start, why in NOT_SHIPPED.items():
            if on.startswith(start):
                raise SettingError("--on", f"{on}: {why}; for models too large for one GPU, take fsdp2")
        raise SettingError(
            "--on",
            f'"{on}" is not one of {listed(shipped)}{did_you_mean(on, shipped)}; it may also be the path of a '
            "configuration of Accelerate",
        )
    path = Path(on) if is_path else shipped[on]
    mode = Mode(on, path, _read(path))
    if mode.kind in LEFT_OUT:
        raise SettingError("--on", f"{path}: distributed_type: {mode.kind}: {LEFT_OUT[mode.kind]}")
    return mode


def _read(path: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError("--on", f"{path}: can't be read ({getattr(error, 'strerror', None) or error})") from error
    except yaml.YAMLError as error:
        raise SettingError("--on", f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or "distributed_type" not in content:
        raise SettingError(
            "--on", f"{path}: no configuration of Accelerate: it has no distributed_type; `accelerate config` makes one"
        )
    if not isinstance(content["distributed_type"], str):
        raise SettingError(
            "--on",
            f"{path}: distributed_type: {content['distributed_type']} is no word; in YAML NO is one in quotes: 'NO'",
        )
    return content
