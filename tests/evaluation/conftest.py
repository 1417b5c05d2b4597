"""Records made by hand, so that what is concluded from them can be checked on paper."""

import io
import json
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet
from rich.console import Console

from finetune.evaluation.analysis import Question, analyse
from finetune.evaluation.comparison import compare
from finetune.evaluation.record import (
    HISTORY,
    PREDICTIONS,
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
    StudyPart,
    Timing,
    write_record,
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
STUDY = {"name": "s", "role": "final", "keys": ["schedule", "optimizer"], "tuned": ["optimizer.learning_rate"]}


ERRORS = ("mse", "mae", "perplexity")
"""The metrics among those of tests of which less is better."""


def result(value, metric="accuracy", standard_error=0.01):
    return SplitResult(
        count=1000,
        loss=0.5,
        metrics={metric: Score(value=value, standard_error=standard_error)},
    )


@pytest.fixture
def make_record():
    """A function that makes a record with the given score on test, an accuracy unless of another `metric`.

    Every other figure can be set. `best`: the score on validation, that on test unless given. `study`: what its part
    differs in from STUDY.
    """

    def make(
        schedule="cosine",
        accuracy=0.85,
        *,
        metric="accuracy",
        best=None,
        seed=0,
        settings=None,
        changes=None,
        splits=("validation", "test"),
        fingerprint="f",
        hardware="a CPU",
        weights="w",
        batches="b",
        seconds=100.0,
        overhead=None,
        diverged=False,
        study=None,
    ):
        recipe = {**RECIPE, "training": {**RECIPE["training"], "seed": seed}, **(changes or {})}
        recipe["schedule"] = {"name": schedule, **(settings or {})}
        recipe["evaluation"] = {"select": metric}
        identity = SplitIdentity(fingerprint=fingerprint, count=1000, truncated=0)
        peak = recipe["optimizer"]["learning_rate"]
        evaluated = Evaluated(step=2, validation={metric: accuracy if best is None else best, "loss": 0.5})
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
                batches=f"{batches}{seed}",
                seed=seed,
            ),
            schedule=ScheduleRecord(
                settings=recipe["schedule"],
                total_steps=2,
                updates_per_epoch=1,
                groups=[GroupRates(name="decay", peak=peak, weight_decay=0.01, parameters=10, rates=[0.0, peak])],
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
                schedule_microseconds=overhead,
            ),
            results=None
            if diverged
            else Results(
                select=metric,
                greater_is_better=metric not in ERRORS,
                kept="best",
                kept_step=2,
                splits={
                    split: result(accuracy if split == "test" else evaluated.validation[metric], metric)
                    for split in splits
                },
                best=evaluated,
                last=evaluated,
            ),
            study=None if study is None else StudyPart(**{**STUDY, **study}),
        )

    return make


def runs_of(records):
    """The records as runs without files; saved runs stay what they are."""
    return [
        record if isinstance(record, RecordedRun) else RecordedRun(Path(f"nowhere/run{number}"), record)
        for number, record in enumerate(records)
    ]


@pytest.fixture
def study(make_record):
    """A function that makes records of the given scores: {schedule: [score of seed 0, of seed 1, …]}."""

    def study(scores, **changes):
        return [
            make_record(schedule, score, seed=seed, **changes)
            for schedule, row in scores.items()
            for seed, score in enumerate(row)
        ]

    return study


@pytest.fixture
def save(tmp_path):
    """A function that writes a record into a directory of its own, and what goes with it; returns the run.

    `evaluations`: (updates, seconds, score on validation) of each, between rows of updates. `right`: of each test
    example, whether it was predicted rightly; or `predictions`: the columns of the table of them.
    """

    def save(record, name=None, *, evaluations=None, right=None, predictions=None):
        path = tmp_path / (name or f"run{len(list(tmp_path.iterdir()))}")
        path.mkdir(parents=True)
        write_record(path, record)
        if evaluations is not None:
            metric = record.recipe["evaluation"]["select"]
            (path / HISTORY).write_text("".join(history_lines(evaluations, metric)))
        if right is not None:
            predicted = ["positive" if each else "negative" for each in right]
            predictions = {"label": ["positive"] * len(right), "prediction": predicted}
        if predictions is not None:
            (path / PREDICTIONS).mkdir()
            parquet.write_table(pyarrow.table(predictions), path / PREDICTIONS / "test.parquet")
        return RecordedRun(path, record)

    return save


def history_lines(evaluations, metric="accuracy"):
    """The lines of a history, as training writes them."""
    for step, seconds, value in evaluations:
        at = {"step": step, "epoch": step / 100, "seconds": seconds}
        yield json.dumps(at | {"rates": {"decay": 1e-4}, "loss": 0.5, "gradient_norm": None}) + "\n"
        yield json.dumps(at | {"evaluation": {"loss": 0.4, metric: value}}) + "\n"


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


@pytest.fixture
def tried(make_record):
    """A function that makes tuning runs: {(peak, seed): best score on validation, None for one that diverged}."""

    def tried(scores, schedule="cosine", optimizer="adamw", metric="accuracy", **study):
        return [
            make_record(
                schedule,
                metric=metric,
                best=score or 0.0,
                diverged=score is None,
                seed=seed,
                splits=("validation",),
                changes={"optimizer": {"name": optimizer, "learning_rate": peak}},
                study={"role": "tuning", **study},
            )
            for (peak, seed), score in scores.items()
        ]

    return tried


@pytest.fixture
def final(make_record):
    """A function that makes the one final run of a study's setting, at a peak of 1e-4."""
    return lambda schedule="cosine", optimizer="adamw", **changes: make_record(
        schedule, seed=10, changes={"optimizer": {"name": optimizer, "learning_rate": 1e-4}}, study={}, **changes
    )
