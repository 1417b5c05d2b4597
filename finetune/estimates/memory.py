"""The memory of a recipe's run: what each device holds, whether it fits, and what would."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from finetune.errors import DeviceError
from finetune.estimates.architecture import Architecture, architecture_of
from finetune.estimates.fitting import Fitting
from finetune.estimates.passes import Setting, Usage, measure
from finetune.estimates.sharding import BY_FORMULA, STRATEGIES, Share, Strategy
from finetune.training.layout import share_out

if TYPE_CHECKING:
    from finetune.estimates.kernels import Device
    from finetune.recipe import Recipe
    from finetune.training.material import RawData


@dataclass(frozen=True)
class Remedy:
    """What makes a run fit: at most `examples` at a time, so that each device adds up `accumulation` micro-batches."""

    examples: int
    accumulation: int


@dataclass(frozen=True)
class MemoryEstimate:
    """What a run holds on each of `devices`, with `examples` at a time.

    `precision`: that of products; `tokens`: of the longest sequence; `shares`: by how the run is spread. Where the
    `memory` of a device is given, `largest` has the most examples at a time that fit, if one does, by each way that a
    run can be launched; and `needed` how many devices would hold one in shards, where none does on these.
    """

    devices: int
    memory: int | None
    architecture: str
    precision: str
    examples: int
    accumulation: int
    tokens: int | None
    usage: Usage
    shares: tuple[Share, ...]
    largest: Mapping[Strategy, Remedy | None]
    needed: int | None

    def fits(self, share: Share) -> bool | None:
        """Whether a device holds `share`; None where its memory isn't given."""
        return None if self.memory is None else share.fits(self.memory)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values; amounts are bytes."""
        usage = asdict(self.usage)
        del usage["units"]
        return {
            "devices": self.devices,
            "memory": self.memory,
            "architecture": self.architecture,
            "precision": self.precision,
            "examples": self.examples,
            "accumulation": self.accumulation,
            "tokens": self.tokens,
            "on_one_device": usage,
            "on_each_device": [asdict(share) | {"fits": self.fits(share)} for share in self.shares],
            "largest": {strategy: remedy and asdict(remedy) for strategy, remedy in self.largest.items()},
            "needed": self.needed,
        }


def estimate_memory(recipe: Recipe, data: RawData, *, devices: int = 1, memory: int | None = None) -> MemoryEstimate:
    """Returns what each of `devices` of `memory` bytes will hold in a run of `recipe`, whose data are `data`.

    Raises DeviceError where the batch can't be split over them, and ModelError where the model can't be made.
    """
    batch_size = recipe.training.batch_size
    examples, accumulation = split_batch(recipe, devices=devices)
    architecture = architecture_of(recipe, data)
    setting = setting_of(recipe, architecture)
    usage = measure(
        architecture.model,
        setting,
        examples=examples,
        accumulated=accumulation > 1,
        evaluated=recipe.evaluation.batch_size,
    )

    def measured(other: int, accumulated: bool) -> Usage:  # noqa: FBT001 - by place, as Fitting remembers it
        if other == examples:
            return usage
        made = measure(architecture.model, setting, examples=other, accumulated=accumulated)
        return replace(made, evaluating=usage.evaluating)

    half = setting.half is not None
    fitting = Fitting(measured, memory=memory or 0, batch_size=batch_size, half=half)
    ways = STRATEGIES if devices > 1 else STRATEGIES[:1]
    shares = tuple(fitting.share(way, devices=devices, examples=examples) for way in ways)
    launched = [way for way in ways if way not in BY_FORMULA]
    found = {} if memory is None else {way: fitting.largest(way, devices=devices) for way in launched}
    return MemoryEstimate(
        devices=devices,
        memory=memory,
        architecture=type(architecture.model).__name__,
        precision=setting.precision,
        examples=examples,
        accumulation=accumulation,
        tokens=architecture.tokens,
        usage=usage,
        shares=shares,
        largest={
            way: None if most is None else _remedy(most, batch_size=batch_size, devices=devices)
            for way, most in found.items()
        },
        needed=fitting.devices_needed() if found and not any(found.values()) else None,
    )


def split_batch(recipe: Recipe, *, devices: int) -> tuple[int, int]:
    """Returns how many examples each of `devices` takes at a time, and how often in an update; raises DeviceError."""
    batch_size, most = recipe.training.batch_size, recipe.training.micro_batch_size
    if batch_size < devices:
        raise DeviceError(
            f"--devices: {devices} can't share a batch of {batch_size} (training.batch_size), which counts the "
            f"examples of one update over all of them: give {batch_size} or fewer, or raise training.batch_size"
        )
    remedy = _remedy(most, batch_size=batch_size, devices=devices)
    if remedy.accumulation * devices > batch_size:
        raise DeviceError(
            f"training.micro_batch_size: {most} cuts a batch of {batch_size} on {devices} devices into "
            f"{remedy.accumulation * devices} parts, some of them empty; raise it, or batch_size"
        )
    return remedy.examples, remedy.accumulation


def _remedy(most: int | None, *, batch_size: int, devices: int) -> Remedy:
    accumulation, examples = share_out(batch_size, processes=devices, largest=most)
    return Remedy(examples, accumulation)


def setting_of(
    recipe: Recipe, architecture: Architecture, *, device: Device = "cuda", precision: str | None = None
) -> Setting:
    """Returns how `recipe` trains the model; `precision`: the one in force, where it is known, else the recipe's own.

    "auto" is taken to be bf16, as on every GPU that gains from it.
    """
    asked: Any = precision or recipe.training.precision
    averaging = recipe.averaging
    return Setting(
        batch=architecture.batch,
        padded=architecture.padded,
        loss=recipe.task.training_loss,
        keep=recipe.task.kept_outputs,
        optimizer=recipe.optimizer,
        precision="bf16" if asked == "auto" else asked,
        device=device,
        averaged=averaging is not None and averaging.ema is not None,
        restored=averaging is not None and (averaging.ema is not None or averaging.checkpoints is not None),
    )
