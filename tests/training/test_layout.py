"""One global batch, split over the processes that were launched."""

import pytest

from finetune.errors import DeviceError
from finetune.training.layout import lay_out


def of(monkeypatch, processes, batch_size, largest=None):
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    monkeypatch.setenv("RANK", "0")
    layout = lay_out(batch_size=batch_size, largest_micro_batch=largest)
    return layout.accumulation, layout.micro_batch_size


@pytest.mark.parametrize(
    ("processes", "batch_size", "largest", "expected"),
    [
        (1, 32, None, (1, 32)),
        (2, 32, None, (1, 16)),
        (1, 32, 8, (4, 8)),
        (2, 32, 8, (2, 8)),
        (1, 32, 12, (3, 11)),
        (3, 32, None, (1, 11)),
        (1, 32, 64, (1, 32)),
    ],
)
def test_accumulation_makes_up_the_global_batch(monkeypatch, processes, batch_size, largest, expected):
    assert of(monkeypatch, processes, batch_size, largest) == expected


def test_more_processes_than_examples_in_a_batch_are_refused(monkeypatch):
    with pytest.raises(DeviceError, match=r"training.batch_size: 2 can't be split over 4 processes"):
        of(monkeypatch, 4, 2)


def test_a_micro_batch_that_would_be_empty_is_refused(monkeypatch):
    with pytest.raises(
        DeviceError, match=r"training.micro_batch_size: 1 cuts a batch of 4 on 3 processes into 6 parts"
    ):
        of(monkeypatch, 3, 4, 1)


def test_without_a_launcher_there_is_one_process_and_it_is_the_main_one(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.delenv("RANK", raising=False)
    layout = lay_out(batch_size=8, largest_micro_batch=None)
    assert (layout.processes, layout.is_main) == (1, True)


def test_a_launcher_can_ask_for_the_cpu(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert lay_out(batch_size=8, largest_micro_batch=None).device.type == "cpu"
