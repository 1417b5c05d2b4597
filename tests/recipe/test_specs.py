"""Schedules in a line of text."""

import pytest

from finetune.errors import FinetuneError
from finetune.recipe import read_schedule
from finetune.schedules import Cosine, Multistep, Step, WarmupStableDecay, as_schedule


@pytest.mark.parametrize(
    ("spec", "schedule"),
    [
        ("cosine", Cosine()),
        ("step gamma=0.5 every=20%", Step(gamma=0.5, every="20%")),
        (
            "wsd warmup=1e2 cooldown='30%' shape=linear".replace("1e2", "100"),
            WarmupStableDecay(warmup=100, cooldown="30%", shape="linear"),
        ),
        ("multistep milestones=[10,20]", Multistep(milestones=[10, 20])),
        ("{points: [[0, 1], [5, 0.5]]}", as_schedule({"points": [[0, 1], [5, 0.5]]})),
    ],
)
def test_a_line_is_a_schedule(spec, schedule):
    assert read_schedule(spec) == schedule


def test_a_recipe_gives_its_own(write, complete):
    assert read_schedule(str(write(complete + "schedule: step\n"))) == Step()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("cosin", "is not one of"),
        ("step gama=0.5", r"step gama=0.5.gama: unknown key \(did you mean gamma\?\)"),
        ("step gamma", '"gamma" is not KEY=VALUE'),
        ("step 'gamma=0.5", "can't be read"),
        ("absent.yaml", "no such file"),
        ("{name: [", "step|expected|mapping|flow|line"),
    ],
)
def test_a_faulty_line_is_refused(spec, message):
    with pytest.raises(FinetuneError, match=message):
        read_schedule(spec)
