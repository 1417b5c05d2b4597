"""What Accelerate's configuration asks for is done, or refused by name."""

import pytest

from finetune.errors import DeviceError
from finetune.training.parallelism import parallelism_asked_for
from tests.forked import FSDP2

SIZES = {"ACCELERATE_USE_PARALLELISM_CONFIG": "true"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "copies"),
        ({"ACCELERATE_USE_FSDP": "false"}, "copies"),
        (FSDP2, "fsdp2"),
        ({**SIZES, "PARALLELISM_CONFIG_TP_SIZE": "1", "PARALLELISM_CONFIG_DP_SHARD_SIZE": "4"}, "copies"),
        ({**FSDP2, **SIZES, "PARALLELISM_CONFIG_DP_REPLICATE_SIZE": "2"}, "fsdp2"),
    ],
)
def test_what_is_asked_for_is_known(environment, expected):
    assert parallelism_asked_for(environment) == expected


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({**FSDP2, "FSDP_VERSION": "1"}, "set fsdp_version: 2 under fsdp_config"),
        ({"ACCELERATE_USE_FSDP": "true"}, "fsdp_version: 1 puts"),
        ({**FSDP2, "FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}, "set it to false under fsdp_config"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "launch with FSDP2"),
        ({"ACCELERATE_USE_MEGATRON_LM": "true"}, "launch with FSDP2"),
        ({**SIZES, "PARALLELISM_CONFIG_TP_SIZE": "2"}, "parallelism_config_tp_size: 2 would have several processes"),
        ({**SIZES, "PARALLELISM_CONFIG_CP_SIZE": "4"}, "parallelism_config_cp_size: 4"),
    ],
)
def test_what_would_train_something_else_is_refused(environment, message):
    with pytest.raises(DeviceError, match=message):
        parallelism_asked_for(environment)
