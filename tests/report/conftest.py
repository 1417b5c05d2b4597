"""Studies made by hand, with the histories that real runs leave, and a browser to open their pages in."""

import json
import math
import random
import shutil

import pytest

from finetune.evaluation.analysis import analyse
from finetune.evaluation.record import (
    HISTORY,
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
from finetune.evaluation.runs import read_runs
from finetune.report import write_report

SHAPES = {
    "cosine": lambda part: (1 + math.cos(math.pi * part)) / 2,
    "linear": lambda part: 1 - part,
    "constant": lambda part: 1.0,
    "step": lambda part: 0.5 ** int(part * 4),
    "exponential": lambda part: 0.1**part,
    "wsd": lambda part: min(1.0, (1 - part) / 0.3),
}
ENVIRONMENT = Environment(
    device="cpu",
    hardware="a CPU",
    processes=1,
    threads=2,
    accumulation=1,
    precision="fp32",
    platform="Linux",
    versions={"torch": "2.13.0", "transformers": "5.23.0"},
)


ERRORS = ("mse", "perplexity")
"""The metrics among those of tests of which less is better."""


def result(value, metric):
    return SplitResult(count=1000, loss=0.5, metrics={metric: Score(value=value, standard_error=0.01)})


def record_of(schedule, score, *, metric, seed, optimizer, peak, updates, diverged, study, name, classes):
    recipe = {
        "name": name,
        "schedule": {"name": schedule, "warmup": "10%"},
        "optimizer": {"name": optimizer, "learning_rate": peak},
        "training": {"duration": updates, "seed": seed, "batch_size": 32},
        "data": {"files": {"train": ["/a/place/of/mine/train.parquet"]}},
        "evaluation": {"select": metric},
        "output": "/a/place/of/mine",
    }
    identity = SplitIdentity(fingerprint="f" * 64, count=1000, truncated=0)
    shape = SHAPES.get(schedule, SHAPES["cosine"])
    splits = ["validation"] if study and study.role == "tuning" else ["validation", "test"]
    evaluated = Evaluated(step=updates, validation={metric: score, "loss": 0.5})
    return RunRecord(
        status="diverged" if diverged else "finished",
        diverged_at_step=updates // 2 if diverged else None,
        name=name,
        recipe=recipe,
        identity=Identity(
            data={"train": identity} | dict.fromkeys(splits, identity),
            classes=list(classes),
            model=ModelIdentity(
                source="a-model",
                commit=None,
                architecture="Bert",
                parameters=10_000,
                new_tensors=["classifier.weight"],
                initial_weights=f"w{seed}",
            ),
            batches=f"b{seed}",
            seed=seed,
        ),
        schedule=ScheduleRecord(
            settings=recipe["schedule"],
            total_steps=updates,
            updates_per_epoch=10,
            groups=[
                GroupRates(
                    name="decay",
                    peak=peak,
                    weight_decay=0.01,
                    parameters=10_000,
                    rates=[peak * shape(step / updates) for step in range(updates // 2 if diverged else updates)],
                )
            ],
        ),
        environment=ENVIRONMENT,
        timing=Timing(
            started="2026-01-01T00:00:00+00:00",
            finished="2026-01-02T00:02:00+00:00",
            total_seconds=120.0,
            train_seconds=100.0 + seed,
            evaluation_seconds=5.0,
            samples_per_second=160.0,
            schedule_microseconds=21.5,
        ),
        results=None
        if diverged
        else Results(
            select=metric,
            greater_is_better=metric not in ERRORS,
            kept="last",
            kept_step=updates,
            splits={split: result(score, metric) for split in splits},
            best=evaluated,
            last=evaluated,
        ),
        study=study,
    )


def history_of(score, metric, updates):
    for quarter in range(1, 5):
        step = max(1, updates * quarter // 4)
        lack = 0.2 * (1 - quarter / 4) ** 2
        values = {metric: score * (1 + lack) if metric in ERRORS else score - lack, "loss": 0.5}
        yield {"step": step, "epoch": quarter / 2, "seconds": quarter * 10.0, "evaluation": values}


class Runs:
    """Runs below a folder, to be added one by one or as a study, and read again."""

    def __init__(self, folder):
        self.folder, self.count = folder / "runs", 0

    def add(
        self,
        schedule="cosine",
        score=0.8,
        *,
        metric="accuracy",
        seed=0,
        optimizer="adamw",
        peak=1e-4,
        updates=40,
        diverged=False,
        study=None,
        name="reviews",
        classes=("negative", "positive"),
        history=True,
    ):
        """Adds one run with its history; every figure can be set."""
        record = record_of(
            schedule,
            score,
            metric=metric,
            seed=seed,
            optimizer=optimizer,
            peak=peak,
            updates=updates,
            diverged=diverged,
            study=study,
            name=name,
            classes=classes,
        )
        self.count += 1
        folder = self.folder / f"run{self.count:04d}"
        write_record(folder, record)
        if history:
            lines = [json.dumps(line) + "\n" for line in history_of(score, metric, updates)]
            (folder / HISTORY).write_text("".join(lines), encoding="utf-8")

    def add_study(self, *, schedules=tuple(SHAPES), optimizers=("adamw", "adam", "rmsprop", "sgd"), seeds=8):
        """Adds schedules × optimizers × seeds with their tuning runs; constant under sgd diverges at two seeds."""
        draw = random.Random(0)
        parts = {
            role: StudyPart(
                name="optimizers",
                role=role,
                keys=["schedule", "optimizer", "training.seed"],
                tuned=["optimizer.learning_rate"],
                reference="cosine",
                equivalence=0.01,
                target=0.75,
            )
            for role in ("tuning", "final")
        }
        for place, optimizer in enumerate(optimizers):
            for rank, schedule in enumerate(schedules):
                peak, mean = 1e-4 * 3**place, 0.85 - 0.02 * place - 0.006 * rank
                for factor in (0.3, 1, 3):
                    best = mean - 0.05 * abs(math.log10(factor))
                    tuning = {"seed": 100, "peak": peak * factor, "study": parts["tuning"]}
                    self.add(schedule, best, optimizer=optimizer, **tuning)
                for seed in range(seeds):
                    accuracy = round(draw.gauss(mean, 0.008), 3)
                    lost = optimizer == "sgd" and schedule == "constant" and seed < 2
                    final = {"seed": seed, "peak": peak, "diverged": lost, "study": parts["final"]}
                    self.add(schedule, accuracy, optimizer=optimizer, **final)

    def analyse(self):
        """Analyses all that were added."""
        return analyse(read_runs([self.folder]))


@pytest.fixture
def runs(tmp_path):
    """Runs to be added to, below tmp_path/runs."""
    return Runs(tmp_path)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The path of the page of a study of three schedules under two optimizers."""
    folder = tmp_path_factory.mktemp("small")
    runs = Runs(folder)
    runs.add_study(schedules=("cosine", "linear", "step"), optimizers=("adamw", "sgd"), seeds=5)
    write_report(runs.analyse(), folder / "report.html")
    return folder / "report.html"


BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OFFLINE = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def browser():
    """A Chromium of this machine, driven over the DevTools protocol."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser was found: none of {', '.join(BROWSERS)} is on the PATH")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=list(OFFLINE))
        yield browser
        browser.close()


class Opened:
    """A page that was opened, and all it asked for and complained about."""

    def __init__(self, page, path):
        self.page, self.requests, self.complaints = page, [], []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss()))
        self.url = path.as_uri()
        page.goto(self.url)

    def chip(self, name):
        return self.page.get_by_role("button", name=name, exact=True)

    def opacity(self, selector):
        """The opacities of all that match, when nothing moves any more."""
        return self.page.evaluate(
            "selector => [...document.querySelectorAll(selector)].map(each => Number(getComputedStyle(each).opacity))",
            selector,
        )

    def colour(self, selector, of):
        return self.page.evaluate(
            "([selector, of]) => getComputedStyle(document.querySelector(selector))[of]", [selector, of]
        )


@pytest.fixture
def open_page(browser):
    """A function that opens a page, in a window of its own that is set as asked."""
    contexts = []

    def opened(path, **settings):
        context = browser.new_context(**({"reduced_motion": "reduce"} | settings))
        contexts.append(context)
        return Opened(context.new_page(), path)

    yield opened
    for context in contexts:
        context.close()
