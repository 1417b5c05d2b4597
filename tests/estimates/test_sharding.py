"""What each of several devices holds, and what fits: arithmetic on a usage that is made up."""

import pytest

from finetune.estimates.fitting import Fitting, largest
from finetune.estimates.passes import Usage
from finetune.estimates.sharding import USABLE, WORKSPACES, share_of

MB = 10**6


def usage(activations=50 * MB, parameters=100 * 10**6, *, accumulated=False):
    """Of a model of 10 blocks and a tenth outside of them, all trained by AdamW in fp32 with products in bf16."""
    return Usage(
        parameters=parameters,
        trained=parameters,
        weights=4 * parameters,
        gradients=4 * parameters,
        states=8 * parameters,
        averages=0,
        copies=2 * parameters,
        activations=activations,
        at_peak={"gradients": 0, "copies": 2 * parameters, "activations": activations},
        stepping=0,
        evaluating=0,
        aside=0,
        units=(*[parameters * 9 // 100] * 10, parameters // 10),
        accumulated=accumulated,
    )


def test_one_device_holds_the_most_that_any_phase_takes():
    share = share_of(usage(), "data parallel", devices=1, half=True)
    # 400 + 800 MB are kept; passes add copies and activations, 250, the optimizer's update the gradients, 400.
    assert share.peak == 1600 * MB + WORKSPACES


def test_several_devices_hold_gradients_twice_as_they_are_added_up():
    alone, among = (share_of(usage(), "data parallel", devices=count, half=True) for count in (1, 2))
    assert among.peak - alone.peak == among.gathered == 400 * MB


@pytest.mark.parametrize(
    ("strategy", "weights", "gradients", "states"),
    # ZeRO's own figures for mixed precision: 2 bytes a weight, 2 a gradient, 12 of state (4 + 8), over 8 devices.
    [("zero1", 200, 200, 150), ("zero2", 200, 25, 150), ("fsdp2", 50, 50, 100)],
)
def test_sharding_divides_what_it_says(strategy, weights, gradients, states):
    share = share_of(usage(), strategy, devices=8, half=True)
    assert (share.weights, share.gradients, share.states) == (weights * MB, gradients * MB, states * MB)


def test_fsdp_gathers_what_is_outside_of_blocks_two_blocks_and_the_gradients_of_a_part():
    share = share_of(usage(), "fsdp2", devices=8, half=True)
    assert share.gathered == (2 * (10 + 2 * 9) + 4 * 10) * MB
    assert share.peak == (50 + 50 + 100 + 96 + 50) * MB + WORKSPACES


def test_fsdp_has_all_gradients_on_each_device_while_micro_batches_are_added_up():
    whole, parts = (share_of(usage(accumulated=each), "fsdp2", devices=8, half=True) for each in (False, True))
    assert parts.peak - whole.peak == parts.gradients - whole.gradients == 400 * MB


def test_a_share_of_memory_is_left_for_what_is_not_counted():
    share = share_of(usage(), "data parallel", devices=1, half=True)
    assert share.fits(int(share.peak / USABLE) + 1)
    assert not share.fits(int(share.peak / USABLE) - 1)


@pytest.mark.parametrize(
    ("limit", "most", "found"), [(7, 100, 7), (100, 64, 64), (0, 64, None), (1, 1, 1), (63, 64, 63)]
)
def test_the_largest_that_fits_is_found(limit, most, found):
    assert largest(lambda number: number <= limit, most=most) == found


def fitting(memory, **more):
    settings = {"batch_size": 64, "half": True} | more
    return Fitting(lambda examples, accumulated: usage(examples * 20 * MB), memory=memory, **settings)


def test_the_largest_micro_batch_fits_and_the_next_does_not():
    found = fitting(2 * 10**9)
    most = found.largest("data parallel", devices=1)
    assert 1 < most < 64
    assert found.share("data parallel", devices=1, examples=most).fits(2 * 10**9)
    assert not found.share("data parallel", devices=1, examples=most + 1).fits(2 * 10**9)


def test_a_whole_share_fits_though_micro_batches_of_it_do_not():
    def measured(examples, accumulated):
        return usage((300 if accumulated else 100) * MB)

    # A whole share takes 1,600 MB, by the update of the optimizer; micro-batches 1,700, by their passes.
    memory = round((1_600 * MB + WORKSPACES) / USABLE) + 1
    found = Fitting(measured, memory=memory, batch_size=64, half=True)
    assert found.largest("data parallel", devices=1) == 64


def test_more_devices_are_asked_for_where_none_fits():
    # By 64 each takes one example: a 64th of 1,600 MB, 116 MB that are gathered or active, 67 MB of workspaces. By 32
    # it is a 32nd and 20 MB more, or for one at a time all gradients.
    assert fitting(round(210 * MB / USABLE)).devices_needed() == 64


def test_no_number_of_devices_helps_what_one_example_takes():
    assert fitting(100 * MB).devices_needed() is None
