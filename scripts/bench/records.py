"""Made-up runs, as a study of recipes/study_optimizers.yaml with more seeds would leave them.

    .venv/bin/python scripts/bench/records.py FOLDER --runs 1000

Six schedules under four optimizers, their tuning runs, and as many seeds as it takes: for measuring what reading and
comparing thousands of runs takes. The same `--seed` makes the same files. Scores have an effect of the setting, one of
the seed that all settings share, and one of their own.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from pyarrow import parquet

from finetune.evaluation.record import (
    HISTORY,
    PREDICTIONS,
    RECORD,
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
)
from finetune.recipe import Recipe, Study, for_tuning, load_study, with_peak, with_seed

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "study_optimizers.yaml"
UPDATES, EVALUATIONS = 120, 8
TEST, VALIDATION = 1000, 300
# What the text of a record holds where each run has its own.
SEED, RIGHT, RIGHT_OF_VALIDATION = 987_654_321, 123, 45


@dataclass(frozen=True)
class Template:
    """The files of one setting's runs, but for what belongs to the seed. `updates`: those before each evaluation."""

    name: str
    record: str
    updates: tuple[str, ...]


def write_runs(folder: Path, *, count: int, seed: int = 0) -> int:
    """Writes at least `count` runs into `folder`, with no more seeds than that takes; returns how many."""
    study = load_study(RECIPE)
    tuning = [_template(study, recipe, role="tuning") for recipe in _tried(study)]
    final = [_template(study, setting.recipe, role="final") for setting in study.settings]
    seeds = max(1, math.ceil((count - len(tuning)) / len(final)))
    generator = np.random.default_rng(seed)
    for template in tuning:
        _write(folder / "tuning", template, seed=100, right=_right(generator, 0.0), has_test=False)
    effects = generator.normal(0, 0.004, size=len(final))
    for run_seed, shared in enumerate(generator.normal(0, 0.008, size=seeds)):
        for template, effect in zip(final, effects, strict=True):
            _write(folder / "final", template, seed=run_seed, right=_right(generator, shared + effect), has_test=True)
    return len(tuning) + len(final) * seeds


def _right(generator: np.random.Generator, effect: float) -> int:
    """Returns how many test examples a run gets right."""
    return round(TEST * min(1.0, 0.83 + effect + generator.normal(0, 0.006)))


def _tried(study: Study) -> Iterator[Recipe]:
    tuning = study.block.tuning
    assert tuning is not None  # noqa: S101 - the shipped recipe has it
    for setting in study.settings:
        for factor in tuning.factors:
            yield for_tuning(with_peak(setting.recipe, setting.recipe.optimizer.learning_rate * factor))


def final_records() -> list[RunRecord]:
    """Returns the record of one run of each schedule under the first optimizer."""
    study = load_study(RECIPE)
    first = study.settings[0].recipe.optimizer.name
    recipes = [setting.recipe for setting in study.settings if setting.recipe.optimizer.name == first]
    return [_record(study, recipe, _rates(recipe), role="final") for recipe in recipes]


def _template(study: Study, recipe: Recipe, *, role: str) -> Template:
    recipe = with_seed(recipe, SEED)
    peak, rates = recipe.optimizer.learning_rate, _rates(recipe)
    record = _record(study, recipe, rates, role=role)
    lines = [json.dumps(_update(step, rate)) + "\n" for step, rate in enumerate(rates, start=1)]
    each = UPDATES // EVALUATIONS
    return Template(
        name=f"{recipe.schedule.name}-{recipe.optimizer.name}-lr{peak:g}",
        record=record.model_dump_json(indent=2) + "\n",
        updates=tuple("".join(lines[start : start + each]) for start in range(0, UPDATES, each)),
    )


def _rates(recipe: Recipe) -> list[float]:
    peak = recipe.optimizer.learning_rate
    factor = recipe.schedule.resolve(total_steps=UPDATES, updates_per_epoch=UPDATES // 2, peak=peak)
    return [peak * float(factor(update)) for update in range(UPDATES)]


def _update(step: int, rate: float) -> dict[str, Any]:
    return {
        "step": step,
        "epoch": round(2 * step / UPDATES, 6),
        "rates": {"decay": rate, "no_decay": rate},
        "seconds": round(0.2561 * step, 4),
        "loss": 0.4 + 0.3 * math.exp(-step / 40),
        "gradient_norm": 1.0 + math.sin(step) / 3,
    }


def _record(study: Study, recipe: Recipe, rates: list[float], *, role: str) -> RunRecord:
    sizes = {"train": 8066, "validation": VALIDATION} | ({"test": TEST} if role == "final" else {})
    best = Evaluated(step=UPDATES, validation={"loss": 0.4931, "accuracy": RIGHT_OF_VALIDATION / VALIDATION})
    results = {"validation": _result(RIGHT_OF_VALIDATION, VALIDATION)} | (
        {"test": _result(RIGHT, TEST)} if role == "final" else {}
    )
    return RunRecord(
        status="finished",
        name=recipe.name,
        recipe=recipe.to_dict(),
        identity=_identity(sizes),
        schedule=ScheduleRecord(
            settings=recipe.schedule.to_dict(),
            total_steps=UPDATES,
            updates_per_epoch=UPDATES // 2,
            groups=[
                GroupRates(name=name, peak=max(rates), weight_decay=decay, parameters=count, rates=rates)
                for name, decay, count in (("decay", 0.01, 22_682_880), ("no_decay", 0.0, 31_106))
            ],
        ),
        environment=_environment(),
        timing=Timing(
            started="2026-01-01T00:00:00+00:00",
            finished="2026-01-01T00:01:00+00:00",
            total_seconds=60.0,
            train_seconds=round(0.2561 * UPDATES, 4),
            evaluation_seconds=8.1397,
            samples_per_second=62.47,
            schedule_microseconds=47.82,
        ),
        results=Results(
            select="accuracy", kept="best", kept_step=UPDATES, splits=results, best=best, last=best.model_copy()
        ),
        study=StudyPart(
            name=study.name,
            role=role,
            keys=list(study.keys),
            tuned=list(study.tuned),
            reference=None,
            equivalence=study.block.equivalence,
            target=study.block.target,
        ),
    )


def _identity(sizes: dict[str, int]) -> Identity:
    return Identity(
        data={
            split: SplitIdentity(fingerprint=_digest(split), count=size, truncated=0) for split, size in sizes.items()
        },
        classes=["negative", "positive"],
        model=ModelIdentity(
            source="all-MiniLM-L6-v2",
            commit=None,
            architecture="BertForSequenceClassification",
            parameters=22_713_986,
            new_tensors=["classifier.bias", "classifier.weight"],
            initial_weights=_digest(f"weights {SEED}"),
        ),
        batches=_digest(f"batches {SEED}"),
        seed=SEED,
    )


def _environment() -> Environment:
    return Environment(
        device="cpu",
        hardware="made up",
        processes=1,
        threads=1,
        accumulation=1,
        precision="fp32",
        platform="Linux",
        versions={"python": "3.11.7", "torch": "2.13.0+cpu", "transformers": "5.23.0", "numpy": "2.4.6"},
    )


def _result(right: int, count: int) -> SplitResult:
    share = right / count
    error = math.sqrt(share * (1 - share) / count)
    return SplitResult(count=count, loss=0.4931, metrics={"accuracy": Score(value=share, standard_error=error)})


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _write(folder: Path, template: Template, *, seed: int, right: int, has_test: bool) -> None:
    run = folder / f"{template.name}-seed{seed}"
    (run / PREDICTIONS).mkdir(parents=True)
    right_of_validation = round(VALIDATION * right / TEST)
    record = template.record
    for was, now in (
        (str(SEED), str(seed)),
        (_digest(f"weights {SEED}"), _digest(f"weights {seed}")),
        (_digest(f"batches {SEED}"), _digest(f"batches {seed}")),
        (_text(_result(RIGHT, TEST)), _text(_result(right, TEST))),
        (_text(_result(RIGHT_OF_VALIDATION, VALIDATION)), _text(_result(right_of_validation, VALIDATION))),
        (json.dumps(RIGHT_OF_VALIDATION / VALIDATION), json.dumps(right_of_validation / VALIDATION)),
    ):
        record = record.replace(was, now)
    (run / RECORD).write_text(record, encoding="utf-8")
    (run / HISTORY).write_text("".join(_history(template, right_of_validation)), encoding="utf-8")
    if has_test:
        (run / PREDICTIONS / "test.parquet").write_bytes(_predictions(right))


def _text(result: SplitResult) -> str:
    score = result.metrics["accuracy"]
    return f'"value": {score.value!r},\n            "standard_error": {score.standard_error!r}'


def _history(template: Template, right: int) -> Iterator[str]:
    for number, updates in enumerate(template.updates, start=1):
        step = number * UPDATES // EVALUATIONS
        accuracy = round(right * (1 - 0.3 * (1 - number / EVALUATIONS) ** 2)) / VALIDATION
        row = {"step": step, "epoch": round(2 * step / UPDATES, 6), "seconds": round(0.2561 * step, 4)}
        yield updates
        yield json.dumps({**row, "evaluation": {"loss": 0.4931, "accuracy": accuracy}}) + "\n"


@functools.cache
def _predictions(right: int) -> bytes:
    """Returns a table of predictions `right` of which are right, the easier examples more often than the harder."""
    generator = np.random.default_rng(right)
    positive = np.random.default_rng(0).random(TEST) < 0.5
    difficulty = np.linspace(0, 1, TEST) + generator.normal(0, 0.15, size=TEST)
    is_right = np.argsort(np.argsort(difficulty)) < right
    probability = np.where(positive == is_right, 1.0, 0.0) * 0.5 + generator.random(TEST) / 2
    classes = np.array(["negative", "positive"])
    table = pyarrow.table(
        {
            "row": np.arange(TEST),
            "label": classes[positive.astype(int)].tolist(),
            "prediction": classes[(positive == is_right).astype(int)].tolist(),
            "probability_negative": 1 - probability,
            "probability_positive": probability,
        }
    )
    out = io.BytesIO()
    parquet.write_table(table, out)
    return out.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(f"{write_runs(arguments.folder, count=arguments.runs, seed=arguments.seed):,} runs in {arguments.folder}")


if __name__ == "__main__":
    main()
