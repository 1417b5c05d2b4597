"""The schedules of other libraries: the rates that they give to the updates of a run."""

import importlib
import importlib.machinery
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch


def torch_rates(make, updates):
    """The rate of each update, from a peak of 1, under the torch scheduler made over an optimizer."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    scheduler = make(optimizer)
    rates = []
    for _ in range(updates):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def timm_schedulers():
    """timm's schedulers without the rest of timm, which needs torchvision: `scripts/venv` puts it aside, without."""
    if "timm" not in sys.modules:
        found = importlib.machinery.PathFinder.find_spec("timm", [str(Path(sys.prefix) / "reference")])
        if found is None:
            pytest.skip("timm is not installed")
        sys.modules["timm"] = importlib.util.module_from_spec(found)
    return importlib.import_module("timm.scheduler")


def timm_rates(kind, updates, **own):
    """As `torch_rates`, under timm's scheduler called `kind`."""
    scheduler = timm_schedulers()
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    made = getattr(scheduler, kind)(optimizer, t_in_epochs=False, **own)
    rates = []
    for t in range(updates):
        made.step_update(t)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def optax_rates(kind, updates, *positional, **own):
    """The values at 0 … updates − 1 of optax's schedule called `kind`, in double precision."""
    jax = pytest.importorskip("jax", reason="jax is not installed")
    optax = pytest.importorskip("optax", reason="optax is not installed")
    jax.config.update("jax_enable_x64", True)
    values = jax.vmap(getattr(optax, kind)(*positional, **own))(jax.numpy.arange(100))  # one shape is compiled once
    return np.asarray(values, dtype=float).tolist()[:updates]
