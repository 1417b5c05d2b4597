"""How often the statistics of a comparison err, over thousands of made-up studies whose truth is known.

    .venv/bin/python scripts/bench/error_rates.py

Scores are either differences drawn from a distribution, or accuracies on `EXAMPLES` test examples of models that are
right where ability + easiness of the example + effect of the seed + effect of the run + noise > 0. The seed's effect is
shared by all schedules, the example's by all models; the spreads of both, and how often two models agree, are those of
small encoders on movie reviews. Every rate has its Monte-Carlo standard error.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from records import final_records
from scipy import special

from finetune.evaluation.analysis import Finding, Question, analyse
from finetune.evaluation.record import RunRecord
from finetune.evaluation.runs import RecordedRun
from finetune.evaluation.statistics import (
    bootstrap_interval,
    equivalence_p_value,
    mean_interval,
    seeds_needed,
    sign_flip_p_value,
)

EXAMPLES = 1000
ALPHA = 0.05
MARGIN, SPREAD = 0.01, 0.008
SEEDS = (3, 5, 6, 8, 16, 30)
DISTRIBUTIONS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "normal": lambda generator, count: generator.normal(size=count),
    "heavy-tailed (Student, 3 degrees)": lambda generator, count: generator.standard_t(3, size=count),
    "skewed (exponential)": lambda generator, count: generator.exponential(size=count) - 1,
}


@dataclass(frozen=True)
class Models:
    """Where models are right. `taste`: by how much schedules differ on single examples, though not on average."""

    ability: float = 3.0
    easiness: float = 3.0
    seed: float = 0.1
    run: float = 0.07
    taste: float = 0.0

    def right(self, generator: np.random.Generator, *, schedules: int, seeds: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns what is right, of the shape (schedules, seeds, examples), and each schedule's mean over all seeds."""
        examples = self.ability + self.easiness * generator.standard_normal(EXAMPLES)
        by_schedule = examples + self.taste * generator.standard_normal((schedules, EXAMPLES))
        runs = self.seed * generator.standard_normal(seeds) + self.run * generator.standard_normal((schedules, seeds))
        noise = generator.standard_normal((schedules, seeds, EXAMPLES), dtype=np.float32)
        expected = special.ndtr(by_schedule / math.sqrt(1 + self.seed**2 + self.run**2)).mean(axis=1)
        return by_schedule[:, None, :] + runs[:, :, None] + noise > 0, expected


def rate(hits: Iterable[bool]) -> dict[str, float]:
    """Returns the share of hits with its standard error."""
    values = list(hits)
    share = sum(values) / len(values)
    error = math.sqrt(share * (1 - share) / len(values))
    return {"rate": round(share, 4), "standard_error": round(error, 4), "studies": len(values)}


def described(models: Models) -> dict[str, float]:
    """Returns what accuracies such models have, over a thousand seeds of two schedules."""
    (first, second), _ = models.right(np.random.default_rng(0), schedules=2, seeds=1000)
    differences = first.mean(axis=1) - second.mean(axis=1)
    figures = {
        "accuracy": first.mean(),
        "its spread over seeds": first.mean(axis=1).std(),
        "spread of the difference": differences.std(),
        "share of examples that two models of a seed judge differently": (first != second).mean(),
    }
    return {name: round(float(figure), 4) for name, figure in figures.items()}


def t_coverage(generator: np.random.Generator, *, studies: int) -> dict[str, Any]:
    """Of the t interval of a mean difference of 0, by distribution and number of seeds."""
    return {
        name: {
            str(seeds): rate(mean_interval(draw(generator, seeds)).holds(0.0) for _ in range(studies))
            for seeds in SEEDS
        }
        for name, draw in DISTRIBUTIONS.items()
    }


def coverage_of_accuracies(generator: np.random.Generator, *, studies: int) -> dict[str, Any]:
    """Of both intervals, for the difference over new seeds on these examples, and over new examples too (it is 0)."""
    found: dict[str, Any] = {}
    for name, models in {"equal on every example": Models(), "equal on average": Models(taste=0.5)}.items():
        found[name] = described(models)
        for seeds in SEEDS:
            hits = [_covered(generator, models, seeds) for _ in range(studies)]
            found[f"{name}, {seeds} seeds"] = {key: rate(hit[key] for hit in hits) for key in hits[0]}
    return found


def _covered(generator: np.random.Generator, models: Models, seeds: int) -> dict[str, bool]:
    (first, second), expected = models.right(generator, schedules=2, seeds=seeds)
    differences = first.mean(axis=1) - second.mean(axis=1)
    student, bootstrap = mean_interval(differences), bootstrap_interval(first, second)
    return {
        "t, these examples": student.holds(expected[0] - expected[1]),
        "t, new examples": student.holds(0.0),
        "bootstrap, new examples": bootstrap.holds(0.0),
        "sign flips at 5%, new examples": sign_flip_p_value(differences) <= ALPHA + 1e-12,
    }


def sign_flip_errors(generator: np.random.Generator, *, studies: int) -> dict[str, Any]:
    """Of one contrast at 5% where there is no difference. The skewed differences are of mean 0, but not symmetric."""
    draws = DISTRIBUTIONS | {"accuracies": lambda generator, count: np.subtract(*accuracies(generator, 2, count))}
    return {
        name: {
            str(seeds): rate(sign_flip_p_value(draw(generator, seeds)) <= ALPHA + 1e-12 for _ in range(studies))
            for seeds in (5, 6, 8, 12)
        }
        for name, draw in draws.items()
    }


def accuracies(generator: np.random.Generator, schedules: int, seeds: int) -> np.ndarray:
    """Returns accuracies of schedules that don't differ, of the shape (schedules, seeds)."""
    right, _ = Models().right(generator, schedules=schedules, seeds=seeds)
    return right.mean(axis=2)


def whole_studies(generator: np.random.Generator, *, studies: int) -> dict[str, Any]:
    """Of studies of equal schedules, from records to verdicts: any schedule shown to differ, or not in one group."""
    templates = final_records()
    found = {}
    for name, schedules, seeds, reference in (
        ("5 contrasts with a reference, 8 seeds", 6, 8, "cosine"),
        ("15 pairs, 10 seeds", 6, 10, None),
        ("2 equal schedules, 6 seeds", 2, 6, None),
        ("2 equal schedules, 8 seeds", 2, 8, None),
        ("2 equal schedules, 16 seeds", 2, 16, None),
    ):
        asked = Question(reference=reference)
        findings = [
            _finding(templates[:schedules], accuracies(generator, schedules, seeds), asked) for _ in range(studies)
        ]
        found[name] = {"any shown to differ": rate(any(c.is_shown for c in each.contrasts) for each in findings)}
        if reference is None:
            found[name]["all in one group"] = rate(len(each.groups) == 1 for each in findings)
    return found


def _finding(templates: Sequence[RunRecord], scores: np.ndarray, asked: Question) -> Finding:
    runs = [
        RecordedRun(Path(f"{number}-{seed}"), with_score(template, seed=seed, score=float(score)))
        for number, (template, row) in enumerate(zip(templates, scores, strict=True))
        for seed, score in enumerate(row)
    ]
    ((finding,),) = (analysis.findings for analysis in analyse(runs, asked=asked).each)
    return finding


def with_score(template: RunRecord, *, seed: int, score: float) -> RunRecord:
    """Returns the record of another seed, with another accuracy on test."""
    identity, results = template.identity, template.results
    assert results is not None  # noqa: S101 - a made-up run has them
    test = results.splits["test"]
    accuracy = test.metrics["accuracy"].model_copy(update={"value": score})
    splits = results.splits | {"test": test.model_copy(update={"metrics": {"accuracy": accuracy}})}
    model = identity.model.model_copy(update={"initial_weights": f"weights {seed}"})
    own = {"seed": seed, "batches": f"batches {seed}", "model": model}
    return template.model_copy(
        update={
            "identity": identity.model_copy(update=own),
            "recipe": template.recipe | {"training": template.recipe["training"] | {"seed": seed}},
            "results": results.model_copy(update={"splits": splits}),
        }
    )


def equivalence(generator: np.random.Generator, *, studies: int) -> dict[str, Any]:
    """Of one contrast: how often a difference of just the margin passes as less, and one of 0 as it should."""

    def passed(mean: float, seeds: int) -> dict[str, float]:
        drawn = generator.normal(mean, SPREAD, size=(studies, seeds))
        return rate(equivalence_p_value(differences, margin=MARGIN) <= ALPHA for differences in drawn)

    return {
        str(seeds): {"error at the margin": passed(MARGIN, seeds), "power at 0": passed(0.0, seeds)}
        for seeds in (5, 6, 8, 16, 30)
    }


def planned_power(generator: np.random.Generator, *, studies: int) -> dict[str, Any]:
    """Power at the number of seeds that `seeds_needed` names for 0.8, by effect in spreads, and number of tests."""
    found = {}
    for effect, tests in ((1.5, 1), (1.0, 1), (0.75, 1), (1.5, 5), (1.0, 5)):
        alpha = ALPHA / tests
        # Two differences of this spread.
        seeds = seeds_needed([-math.sqrt(0.5), math.sqrt(0.5)], effect=effect, level=1 - alpha)
        drawn = generator.normal(effect, 1.0, size=(studies, seeds))
        intervals = [mean_interval(differences, level=1 - alpha) for differences in drawn]
        found[f"effect of {effect} spreads, {tests} test{'s' * (tests > 1)}"] = {
            "seeds": seeds,
            "t test": rate(not interval.holds(0.0) for interval in intervals),
            "sign flips": rate(sign_flip_p_value(differences) <= alpha + 1e-12 for differences in drawn),
            "t test, spread estimated from 8 seeds": rate(_planned(generator, effect, alpha) for _ in range(studies)),
        }
    return found


def _planned(generator: np.random.Generator, effect: float, alpha: float) -> bool:
    seeds = seeds_needed(generator.normal(effect, 1.0, size=8), effect=effect, level=1 - alpha)
    assert seeds is not None  # noqa: S101 - the effects are large
    return not mean_interval(generator.normal(effect, 1.0, size=seeds), level=1 - alpha).holds(0.0)


PARTS: dict[str, tuple[Callable[..., dict[str, Any]], int]] = {
    "coverage of the t interval": (t_coverage, 10_000),
    "coverage with accuracies": (coverage_of_accuracies, 2_000),
    "error of the sign-flip test": (sign_flip_errors, 10_000),
    "whole studies": (whole_studies, 2_000),
    "equivalence": (equivalence, 10_000),
    "power as planned": (planned_power, 2_000),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0, help="of the studies, for a quick look")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path, default=Path(__file__).with_name("error_rates.json"))
    arguments = parser.parse_args()
    result: dict[str, Any] = {"seed": arguments.seed, "examples": EXAMPLES}
    for number, (name, (simulate, studies)) in enumerate(PARTS.items()):
        began = time.process_time()
        generator = np.random.default_rng([arguments.seed, number])
        result[name] = simulate(generator, studies=max(2, round(studies * arguments.share)))
        print(f"{name}: {time.process_time() - began:.1f} s", flush=True)
    arguments.write.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"written to {arguments.write}")


if __name__ == "__main__":
    main()
