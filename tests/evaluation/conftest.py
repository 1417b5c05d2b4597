"""Records made by hand, so that what is concluded from them can be checked on paper."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from finetune.evaluation.analysis import Question, analyse
from finetune.evaluation.comparison import compare
from finetune.evaluation.record import (
    Environment,
    Evaluated,
    GroupRates,
    Identity,
    ModelIdentity,
    Results,
    RunRecord,
    ScheduleRecord,
    Score,
    SplitIdentity,
    SplitResult,
    Timing,
)
from finetune.evaluation.runs import RecordedRun
from finetune.evaluation.terminal import print_analyses

RECIPE = {
    "name": "reviews",
    "optimizer": {"name": "adamw", "learning_rate": 1e-4},
    "training": {"seed": 0, "batch_size": 32},
    "evaluation": {"select": "accuracy"},
    "output": "runs",
}


def result(accuracy, standard_error=0.01):
    return SplitResult(
        count=1000,
        loss=0.5,
        metrics={"accuracy": Score(value=accuracy, standard_error=standard_error)},
    )


@pytest.fixture
def make_record():
    """A function that makes a record with the given accuracy on test; every other figure can be set."""

    def make(
        schedule="cosine",
        accuracy=0.85,
        *,
        seed=0,
        settings=None,
        changes=None,
        splits=("validation", "test"),
        fingerprint="f",
        hardware="a CPU",
        weights="w",
        seconds=100.0,
        diverged=False,
    ):
        recipe = {**RECIPE, "training": {**RECIPE["training"], "seed": seed}, **(changes or {})}
        recipe["schedule"] = {"name": schedule, **(settings or {})}
        identity = SplitIdentity(fingerprint=fingerprint, count=1000, truncated=0)
        return RunRecord(
            status="diverged" if diverged else "finished",
            diverged_at_step=7 if diverged else None,
            name="reviews",
            recipe=recipe,
            identity=Identity(
                data={"train": identity} | dict.fromkeys(splits, identity),
                classes=["negative", "positive"],
                model=ModelIdentity(
                    source="a-model",
                    commit=None,
                    architecture="Bert",
                    parameters=10,
                    new_tensors=[],
                    initial_weights=f"{weights}{seed}",
                ),
                batches=f"b{seed}",
                seed=seed,
            ),
            schedule=ScheduleRecord(
                settings=recipe["schedule"],
                total_steps=2,
                updates_per_epoch=1,
                groups=[GroupRates(name="decay", peak=1e-4, weight_decay=0.01, parameters=10, rates=[0.0, 1e-4])],
            ),
            environment=Environment(
                device="cpu",
                hardware=hardware,
                processes=1,
                threads=2,
                accumulation=1,
                precision="fp32",
                platform="Linux",
                versions={"torch": "2.13.0"},
            ),
            timing=Timing(
                started="2026-01-01T00:00:00+00:00",
                finished="2026-01-01T00:02:00+00:00",
                total_seconds=120.0,
                train_seconds=seconds,
                evaluation_seconds=5.0,
                samples_per_second=160.0,
            ),
            results=None
            if diverged
            else Results(
                select="accuracy",
                kept="best",
                kept_step=2,
                splits={split: result(accuracy) for split in splits},
                best=Evaluated(step=2, validation={"accuracy": accuracy, "loss": 0.5}),
                last=Evaluated(step=2, validation={"accuracy": accuracy, "loss": 0.5}),
            ),
        )

    return make


def runs_of(records):
    """The records as runs without files."""
    return [RecordedRun(Path(f"nowhere/run{number}"), record) for number, record in enumerate(records)]


@pytest.fixture
def compared():
    """A function that compares records."""
    return lambda records: compare(runs_of(records))


@pytest.fixture
def only(compared):
    """A function that compares records of one data set."""

    def only(records):
        (comparison,) = compared(records)
        return comparison

    return only


@pytest.fixture
def analysed():
    """A function that analyses records of one data set, with the question as keywords."""

    def analysed(records, **question):
        (analysis,) = analyse(runs_of(records), asked=Question(**question)).each
        return analysis

    return analysed


@pytest.fixture
def printed():
    """A function that returns what the terminal shows of records."""

    def printed(records, width=200, **question):
        out = io.StringIO()
        print_analyses(analyse(runs_of(records), asked=Question(**question)), Console(file=out, width=width))
        return out.getvalue()

    return printed
