"""What each run takes of a machine."""

import pytest

from finetune.study.engines.portions import Portion, gpus_of_each, resources_in_words
from finetune.study.engines.worker import place_of_gpu


@pytest.mark.parametrize(
    ("portion", "resources", "runs"),
    [
        (Portion(1, 0), {"CPU": 4.0}, 4),
        (Portion(3, 0), {"CPU": 8.0}, 2),
        (Portion(8, 0), {"CPU": 4.0}, 0),
        (Portion(1, 0), {"memory": 1e9}, 0),  # a head that takes no tasks
        (Portion(1, 1), {"CPU": 16.0, "GPU": 4.0}, 4),
        (Portion(1, 0.25), {"CPU": 16.0, "GPU": 2.0}, 8),
        (Portion(1, 0.25), {"CPU": 6.0, "GPU": 2.0}, 6),
        (Portion(1, 0.4), {"CPU": 16.0, "GPU": 2.0}, 4),  # a run is on one GPU: 0.2 of each is left
        (Portion(1, 0.1), {"CPU": 16.0, "GPU": 1.0}, 10),
        (Portion(1, 1), {"CPU": 16.0}, 0),
    ],
)
def test_as_many_runs_fit_as_cpus_and_gpus_allow(portion, resources, runs):
    assert portion.fits_in(resources) == runs


def test_a_gpu_each_is_taken_where_there_are_any(monkeypatch):
    monkeypatch.delenv("ACCELERATE_USE_CPU")
    assert gpus_of_each(None, [{"CPU": 4}, {"CPU": 4, "GPU": 2}]) == 1
    assert gpus_of_each(None, [{"CPU": 4}]) == 0
    assert gpus_of_each(0.25, [{"CPU": 4}]) == 0.25
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert gpus_of_each(None, [{"GPU": 2}]) == 0


def test_shares_are_said_in_words():
    assert str(Portion(1, 0)) == "1 CPU"
    assert str(Portion(2, 0.25)) == "2 CPUs and 0.25 of a GPU"
    assert resources_in_words({"CPU": 0, "GPU": 8, "memory": 1}) == "0 CPUs and 8 GPUs"


def test_a_gpu_is_known_by_its_place_among_those_that_are_seen():
    assert place_of_gpu("2", visible=None) == 2
    assert place_of_gpu("2", visible="2,3") == 0
    assert place_of_gpu("GPU-b", visible="GPU-a, GPU-b") == 1
