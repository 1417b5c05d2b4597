"""Optimizers: the torch class each name stands for, its updates against the papers' formulas, and what is refused."""

import math

import pytest
import torch

from finetune.errors import SettingError
from finetune.optimizers import OPTIMIZERS, SGD, Adafactor, Adagrad, Adam, AdamW, RMSprop


def updates(settings, gradients, *, start=1.0, weight_decay=0.0):
    """The values of one parameter after each of the updates by `gradients`."""
    parameter = torch.nn.Parameter(torch.tensor([start], dtype=torch.float64))
    optimizer = settings.build([{"params": [parameter], "weight_decay": weight_decay}])
    values = []
    for gradient in gradients:
        parameter.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
        values.append(parameter.item())
    return values


@pytest.mark.parametrize(
    ("name", "class_name"),
    [
        ("adamw", "AdamW"),
        ("adam", "Adam"),
        ("sgd", "SGD"),
        ("rmsprop", "RMSprop"),
        ("adagrad", "Adagrad"),
        ("adafactor", "Adafactor"),
    ],
)
def test_a_name_stands_for_the_optimizer_of_that_name(name, class_name):
    settings = OPTIMIZERS[name](learning_rate=0.1)
    assert settings.name == name
    assert type(settings.build([{"params": [torch.nn.Parameter(torch.zeros(1))]}])).__name__ == class_name


def test_every_optimizer_is_tested_by_name():
    assert set(OPTIMIZERS) == {"adamw", "adam", "sgd", "rmsprop", "adagrad", "adafactor"}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (AdamW(learning_rate=0.1, betas=(0.8, 0.9), eps=1e-6), {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-6}),
        (Adam(learning_rate=0.1, betas=(0.8, 0.9), eps=1e-6), {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-6}),
        (SGD(learning_rate=0.1, momentum=0.5, nesterov=True), {"lr": 0.1, "momentum": 0.5, "nesterov": True}),
        (
            RMSprop(learning_rate=0.1, alpha=0.5, momentum=0.2, centered=True, eps=1e-6),
            {"lr": 0.1, "alpha": 0.5, "momentum": 0.2, "centered": True, "eps": 1e-6},
        ),
        (Adagrad(learning_rate=0.1, eps=1e-6), {"lr": 0.1, "eps": 1e-6}),
        (Adafactor(learning_rate=0.1), {"lr": 0.1, "relative_step": False, "scale_parameter": False}),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_settings_reach_the_optimizer(settings, expected):
    (group,) = settings.build([{"params": [torch.nn.Parameter(torch.zeros(1))]}]).param_groups
    assert {key: group[key] for key in expected} == expected


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_group_keeps_its_own_weight_decay(name):
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "weight_decay": decay} for decay in (0.3, 0.0)]
    optimizer = OPTIMIZERS[name](learning_rate=0.1, weight_decay=0.7).build(groups)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3, 0.0]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_rate_of_a_group_scales_its_update(name):
    def change(rate):
        parameter = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        optimizer = OPTIMIZERS[name](learning_rate=0.1).build([{"params": [parameter], "weight_decay": 0.0}])
        optimizer.param_groups[0]["lr"] = rate
        parameter.grad = torch.ones(1, dtype=torch.float64)
        optimizer.step()
        return parameter.item()

    assert change(0.02) == pytest.approx(change(0.1) / 5)
    assert change(0.1) < 0


def test_sgd_adds_up_gradients_by_its_momentum():
    # b₁ = 1, b₂ = 0.5·1 + 2 = 2.5: 1 − 0.1 = 0.9, then 0.9 − 0.25.
    assert updates(SGD(learning_rate=0.1, momentum=0.5), [1.0, 2.0]) == pytest.approx([0.9, 0.65])


def test_nesterov_looks_one_momentum_ahead():
    # g + μb: 1 + 0.5·1 = 1.5, then 2 + 0.5·2.5 = 3.25.
    values = updates(SGD(learning_rate=0.1, momentum=0.5, nesterov=True), [1.0, 2.0])
    assert values == pytest.approx([1 - 0.15, 1 - 0.15 - 0.325])


@pytest.mark.parametrize("gradient", [3.0, -1e-3])
@pytest.mark.parametrize("kind", [Adam, AdamW])
def test_the_first_update_of_adam_is_the_rate_against_the_gradient(kind, gradient):
    # The bias-corrected moments are g and g².
    expected = 1 - 0.1 * gradient / (abs(gradient) + 1e-8)
    assert updates(kind(learning_rate=0.1), [gradient]) == pytest.approx([expected], rel=1e-12)


def test_the_second_update_of_adam_follows_the_moments():
    # m = (0.9·0.1·1 + 0.1·3) / (1 − 0.9²), v = (0.999·0.001·1 + 0.001·9) / (1 − 0.999²)
    mean = (0.09 + 0.3) / 0.19
    square = (0.000999 + 0.009) / (1 - 0.999**2)
    expected = 0.9 - 0.1 * mean / (math.sqrt(square) + 1e-8)
    assert updates(Adam(learning_rate=0.1), [1.0, 3.0])[1] == pytest.approx(expected)


def test_decay_in_adamw_shrinks_the_weight_by_rate_times_decay():
    # 1·(1 − 0.1·0.5) − 0.1
    assert updates(AdamW(learning_rate=0.1), [1.0], weight_decay=0.5) == pytest.approx([0.85])


def test_decay_in_adam_is_part_of_the_gradient():
    # −0.01 + 0.5·1 = 0.49 is above zero, so the weight falls by one rate; without decay it would rise.
    assert updates(Adam(learning_rate=0.1), [-0.01], weight_decay=0.5) == pytest.approx([0.9])


def test_rmsprop_divides_by_the_root_of_the_mean_square():
    # v = (1 − 0.75)·3² gives 3/√v = 2.
    assert updates(RMSprop(learning_rate=0.1, alpha=0.75), [3.0]) == pytest.approx([0.8])


def test_adagrad_divides_by_the_root_of_the_sum_of_squares():
    # 3/√9, then 4/√(9 + 16).
    assert updates(Adagrad(learning_rate=0.1), [3.0, 4.0]) == pytest.approx([0.9, 0.82])


def test_adafactor_takes_the_rate_it_is_given():
    # The second moment starts at g², so the first update is the rate.
    assert updates(Adafactor(learning_rate=0.1), [3.0]) == pytest.approx([0.9])


@pytest.mark.parametrize("kind", [AdamW, Adam, SGD])
def test_updates_are_fused_where_the_device_can(kind):
    on_cpu = kind(learning_rate=0.1).build([{"params": [torch.nn.Parameter(torch.zeros(1))]}])
    assert on_cpu.param_groups[0]["fused"] is True


@pytest.mark.parametrize("kind", [AdamW, Adam, SGD])
def test_a_device_without_fused_updates_gets_plain_ones(kind):
    elsewhere = torch.nn.Parameter(torch.zeros(1, device="meta"))
    optimizer = kind(learning_rate=0.1).build([{"params": [elsewhere]}])
    assert not optimizer.param_groups[0]["fused"]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_parameter_without_gradient_signal_stays_finite(name):
    assert updates(OPTIMIZERS[name](learning_rate=0.1), [0.0]) == [1.0]


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        *((kind, "learning_rate", value) for kind in OPTIMIZERS.values() for value in (0.0, -1e-3, math.nan, math.inf)),
        *((kind, "weight_decay", value) for kind in OPTIMIZERS.values() for value in (-0.1, math.nan, math.inf)),
        *((kind, "betas", value) for kind in (AdamW, Adam) for value in ((1.0, 0.9), (0.9, -0.1), (0.9, math.nan))),
        *((kind, "eps", value) for kind in (AdamW, Adam, RMSprop, Adagrad) for value in (0.0, -1e-8)),
        *((kind, "momentum", value) for kind in (SGD, RMSprop) for value in (1.0, -0.1)),
        (RMSprop, "alpha", 1.0),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(kind, field, value):
    with pytest.raises(SettingError, match=r"must be (at least|above) 0") as caught:
        kind(**{"learning_rate": 0.1, field: value})
    assert caught.value.field == field


def test_nesterov_without_momentum_is_refused():
    with pytest.raises(SettingError, match="needs a momentum above 0"):
        SGD(learning_rate=0.1, momentum=0.0, nesterov=True)
