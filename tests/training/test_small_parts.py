"""The clock, the random state, the parameter groups, the cadence and the precision of a run."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import TrainerControl, TrainerState

from finetune.errors import DeviceError
from finetune.training import clock as clock_module
from finetune.training.cadence import Cadence
from finetune.training.clock import TrainingClock
from finetune.training.parameter_groups import parameter_groups
from finetune.training.precision import resolve_precision
from finetune.training.random_state import preserved_random_state


def draw():
    return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002


def test_what_is_drawn_inside_leaves_no_trace():
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    expected = draw()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    with preserved_random_state():
        draw()
    assert draw() == expected


def test_the_clock_leaves_pauses_out(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(clock_module, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    clock = TrainingClock()
    clock.start(seconds=5.0)
    now[0] += 2
    with clock.paused():
        now[0] += 30
    now[0] += 1
    assert clock.seconds == 8.0
    assert clock.paused_seconds == 30.0


def test_weight_decay_is_for_the_named_parameters_alone():
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.LayerNorm(3))
    decay, no_decay = parameter_groups(model, weight_decay=0.1, decayed={"0.weight"})
    assert (decay["name"], decay["weight_decay"], [p.shape for p in decay["params"]]) == ("decay", 0.1, [(3, 2)])
    assert (no_decay["name"], no_decay["weight_decay"], len(no_decay["params"])) == ("no_decay", 0.0, 3)


def test_frozen_parameters_are_in_no_group():
    model = torch.nn.Linear(2, 3)
    model.weight.requires_grad_(False)
    (only,) = parameter_groups(model, weight_decay=0.1, decayed={"weight"})
    assert (only["name"], len(only["params"])) == ("no_decay", 1)


def cadence_of(*, evaluate_every, save_every=None, evaluated=(), evaluate=lambda: None):
    return Cadence(
        evaluate_every=evaluate_every,
        save_every=save_every,
        is_evaluated=lambda step: step in evaluated,
        evaluate=evaluate,
    )


@pytest.mark.parametrize(
    ("evaluate_every", "save_every", "evaluated", "saved"),
    [(4, 5, {4, 8, 10}, {5}), (None, None, {10}, set()), (10, 1, {10}, set(range(1, 10)))],
)
def test_cadence(evaluate_every, save_every, evaluated, saved):
    cadence = cadence_of(evaluate_every=evaluate_every, save_every=save_every)
    steps = {}
    for step in range(1, 11):
        state, control = TrainerState(global_step=step, max_steps=10), TrainerControl()
        steps[step] = cadence.on_step_end(None, state, control)
    assert {step for step, control in steps.items() if control.should_evaluate} == evaluated
    assert {step for step, control in steps.items() if control.should_save} == saved


@pytest.mark.parametrize(
    ("step", "evaluated", "missing"),
    [(0, (), 0), (3, (), 0), (4, (), 1), (4, (4,), 0), (10, (4, 8), 1), (10, (10,), 0)],
)
def test_a_run_goes_on_with_the_evaluation_that_it_lacks(step, evaluated, missing):
    made = []
    cadence = cadence_of(evaluate_every=4, evaluated=evaluated, evaluate=lambda: made.append(step))
    cadence.on_train_begin(None, TrainerState(global_step=step, max_steps=10), TrainerControl())
    assert len(made) == missing


def test_fp16_without_a_gpu_is_refused():
    with pytest.raises(DeviceError, match=r"training\.precision: fp16 needs a GPU"):
        resolve_precision("fp16", torch.device("cpu"))


@pytest.mark.parametrize(
    ("amx", "avx512_bf16", "expected"), [(True, True, "bf16"), (False, True, "bf16"), (False, False, "fp32")]
)
def test_auto_is_bf16_where_the_cpu_has_instructions_for_it(monkeypatch, amx, avx512_bf16, expected):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
    assert resolve_precision("auto", torch.device("cpu")) == expected


def test_a_precision_that_is_asked_for_is_taken():
    assert resolve_precision("bf16", torch.device("cpu")) == "bf16"
    assert resolve_precision("fp32", torch.device("cuda")) == "fp32"
