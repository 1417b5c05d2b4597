"""Amounts of memory and other bounds, as they are given on the command line."""

import pytest

from finetune.errors import SettingError
from finetune.estimates.sizes import check_devices, check_seconds, in_gb, parse_memory


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("80GB", 80 * 10**9),
        ("80 gb", 80 * 10**9),
        ("24GiB", 24 * 2**30),
        ("1.5GB", 1_500_000_000),
        ("500MB", 500 * 10**6),
        ("2tb", 2 * 10**12),
        ("10b", 10),
    ],
)
def test_memory_has_a_number_and_a_unit(text, size):
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["80", "GB", "eighty GB", "80 G", "-80GB", "80GBs", "", "nanGB", "0GB", "1e3GB"])
def test_what_is_no_memory_is_refused_by_its_value(text):
    with pytest.raises(SettingError, match="--memory") as error:
        parse_memory(text)
    assert f'"{text}"' in str(error.value)


@pytest.mark.parametrize("count", [0, -1, 100_001])
def test_devices_are_counted_from_one(count):
    with pytest.raises(SettingError, match=f"--devices: {count} must be from 1"):
        check_devices(count)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("inf"), float("nan")])
def test_an_update_takes_time(seconds):
    with pytest.raises(SettingError, match="--seconds-per-update"):
        check_seconds(seconds)


def test_gigabytes_have_the_digits_that_matter():
    assert [in_gb(size) for size in (1_234_567, 1_234_567_890, 12_345_678_901, 1_234_567_890_123)] == [
        "0.00",
        "1.23",
        "12.3",
        "1,235",
    ]
