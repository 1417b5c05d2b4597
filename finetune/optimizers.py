"""Optimizers by name: one frozen settings class each, and the table of names.

Every class has `learning_rate`, the peak that a schedule multiplies, and `weight_decay`, which is applied to weight
matrices only (see `finetune.training.parameter_groups`). `build` imports torch; describing an optimizer doesn't.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from finetune.errors import SettingError

if TYPE_CHECKING:
    import torch


def _check(field: str, value: float, *, low: float, high: float = float("inf"), open_low: bool = False) -> None:
    """Raises SettingError unless low ≤ value < high (low < value with `open_low`)."""
    if not (low < value if open_low else low <= value) or not value < high:
        lower = f"above {low:g}" if open_low else f"at least {low:g}"
        upper = "" if high == float("inf") else f" and below {high:g}"
        raise SettingError(field, f"{value:g} must be {lower}{upper}, and finite")


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """What every optimizer has. `learning_rate`: the peak rate; `weight_decay`: the coefficient λ ≥ 0."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid", "strict": True}

    name: str
    learning_rate: float
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _check("learning_rate", self.learning_rate, low=0.0, open_low=True)
        _check("weight_decay", self.weight_decay, low=0.0)

    def build(self, parameters: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Returns the torch optimizer over `parameters`, a list of groups, each with its own `weight_decay`."""
        raise NotImplementedError


# Devices with fused kernels for Adam, AdamW and SGD, several times faster than plain ones; torch refuses fused=True on
# any other.
_FUSED_DEVICES = frozenset({"cpu", "cuda", "mps", "xpu"})


def _fused(parameters: list[dict[str, Any]]) -> bool | None:
    devices = {parameter.device.type for group in parameters for parameter in group["params"]}
    return True if devices <= _FUSED_DEVICES else None


def _check_betas(betas: tuple[float, float]) -> None:
    for beta in betas:
        _check("betas", beta, low=0.0, high=1.0)


@dataclass(frozen=True, kw_only=True)
class AdamW(OptimizerSettings):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv 1711.05101)."""

    name: Literal["adamw"] = "adamw"
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_betas(self.betas)
        _check("eps", self.eps, low=0.0, open_low=True)

    def build(self, parameters: list[dict[str, Any]]) -> torch.optim.Optimizer:
        import torch

        return torch.optim.AdamW(
            parameters, lr=self.learning_rate, betas=self.betas, eps=self.eps, fused=_fused(parameters)
        )


@dataclass(frozen=True, kw_only=True)
class Adam(OptimizerSettings):
    """Adam (Kingma and Ba 2015, arXiv 1412.6980); weight decay is L2, added to the gradient."""

    name: Literal["adam"] = "adam"
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_betas(self.betas)
        _check("eps", self.eps, low=0.0, open_low=True)

    def build(self, parameters: list[dict[str, Any]]) -> torch.optim.Optimizer:
        import torch

        return torch.optim.Adam(
            parameters, lr=self.learning_rate, betas=self.betas, eps=self.eps, fused=_fused(parameters)
        )


@dataclass(frozen=True, kw_only=True)
class SGD(OptimizerSettings):
    """Stochastic gradient descent with momentum, Nesterov's on request (Sutskever et al. 2013)."""

    name: Literal["sgd"] = "sgd"
    momentum: float = 0.9
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check("momentum", self.momentum, low=0.0, high=1.0)
        if self.nesterov and self.momentum == 0:
            raise SettingError("nesterov", "true needs a momentum above 0: set momentum, or leave nesterov out")

    def build(self, parameters: list[dict[str, Any]]) -> torch.optim.Optimizer:
        import torch

        return torch.optim.SGD(
            parameters, lr=self.learning_rate, momentum=self.momentum, nesterov=self.nesterov, fused=_fused(parameters)
        )


@dataclass(frozen=True, kw_only=True)
class RMSprop(OptimizerSettings):
    """RMSprop (Hinton's lecture 6e, 2012), with optional momentum and centring (Graves 2013, arXiv 1308.0850)."""

    name: Literal["rmsprop"] = "rmsprop"
    alpha: float = 0.99
    momentum: float = 0.0
    centered: bool = False
    eps: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        _check("alpha", self.alpha, low=0.0, high=1.0)
        _check("momentum", self.momentum, low=0.0, high=1.0)
        _check("eps", self.eps, low=0.0, open_low=True)

    def build(self, parameters: list[dict[str, Any]]) -> torch.optim.Optimizer:
        import torch

        return torch.optim.RMSprop(
            parameters,
            lr=self.learning_rate,
            alpha=self.alpha,
            momentum=self.momentum,
            centered=self.centered,
            eps=self.eps,
        )


@dataclass(frozen=True, kw_only=True)
class Adagrad(OptimizerSettings):
    """Adagrad (Duchi et al. 2011)."""

    name: Literal["adagrad"] = "adagrad"
    eps: float = 1e-10

    def __post_init__(self) -> None:
        super().__post_init__()
        _check("eps", self.eps, low=0.0, open_low=True)

    def build(self, parameters: list[dict[str, Any]]) -> torch.optim.Optimizer:
        import torch

        return torch.optim.Adagrad(parameters, lr=self.learning_rate, eps=self.eps)


@dataclass(frozen=True, kw_only=True)
class Adafactor(OptimizerSettings):
    """Adafactor (Shazeer and Stern 2018, arXiv 1804.04235) with the rate given by the schedule, not by its own rule."""

    name: Literal["adafactor"] = "adafactor"

    def build(self, parameters: list[dict[str, Any]]) -> torch.optim.Optimizer:
        from transformers.optimization import Adafactor as TransformersAdafactor

        return TransformersAdafactor(  # type: ignore[no-untyped-call]
            parameters, lr=self.learning_rate, scale_parameter=False, relative_step=False
        )


OPTIMIZERS: dict[str, type[OptimizerSettings]] = {
    "adamw": AdamW,
    "adam": Adam,
    "sgd": SGD,
    "rmsprop": RMSprop,
    "adagrad": Adagrad,
    "adafactor": Adafactor,
}
