"""Spoilt runs: the records, histories and predictions of a small study, with bytes and values changed."""

import copy
import io
import json
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow
from pyarrow import parquet
from rich.console import Console

from finetune.evaluation.analysis import analyse
from finetune.evaluation.record import HISTORY, PREDICTIONS, RECORD
from finetune.evaluation.runs import read_runs
from finetune.evaluation.terminal import print_analyses
from finetune.report.page import render
from tests.fuzzing import Counts, change_bytes

VALUES = (
    *(None, True, False, 0, 1, -1, 2, 7, 2**31, 2**53 + 1, 2**64, -(10**30), 10**400),
    *(0.0, -0.0, 0.5, 1.0, 1e-320, 1e308, -1e308, float("inf"), float("-inf"), float("nan")),
    *("", "x", "test", "train", "validation", "accuracy", "loss", "cosine", "\x00", "\x1b[31m", "\ud800", "x" * 5000),
    *(
        [],
        {},
        [[]],
        [None],
        {"": None},
        {"name": "x"},
        {"name": None},
        {"name": []},
        {"a": {"b": {}}},
        [{"b": 1, "a": 2}],
    ),
    *("finished", "diverged", "tuning", "final", "best", "last", "optimizer", "schedule", "training.seed"),
)


def fuzz_records(count: int, seed: int, folder: Path) -> Counts:
    """Reads and analyses runs, written into `folder`, of which `count` times one file, or one value in all, is spoilt."""
    draw = random.Random(seed)
    counts = Counts()
    records = list(_records())
    whole = {file: content for record in records for file, content in _files(record).items()}
    _write(folder, whole)
    for _ in range(count):
        spoilt = _spoilt_files(records, whole, draw)
        _write(folder, spoilt)
        counts.add(partial(_compare, folder), lambda spoilt=spoilt: repr(spoilt)[:20_000])  # type: ignore[misc]
        _write(folder, {file: whole[file] for file in spoilt})
    return counts


def _compare(folder: Path) -> None:
    """Says what the runs show, on a terminal and on a page, as the command line does."""
    analyses = analyse(read_runs([folder]))
    print_analyses(analyses, Console(file=io.StringIO(), width=120))
    render(analyses)


def _records() -> Iterator[dict[str, object]]:
    """Yields the records of a small study: two schedules on six seeds each, and the runs that chose their peaks."""
    for schedule in ("cosine", "step"):
        for seed in range(6):
            yield _record(schedule, seed, "final")
        for seed in (100, 101):
            yield _record(schedule, seed, "tuning")


def _record(schedule: str, seed: int, role: str) -> dict[str, object]:
    accuracy = (5 + seed % 3) / 10
    score = {"accuracy": {"value": accuracy, "standard_error": 0.1}}
    splits = ("validation", "test") if role == "final" else ("validation",)
    evaluated = {"step": 2, "validation": {"accuracy": accuracy, "loss": 0.5}}
    settings = {"name": schedule, "warmup": "10%"}
    peak = 1e-4 if role == "final" else 1e-4 * (seed - 99)
    return {
        "format": 1,
        "status": "finished",
        "diverged_at_step": None,
        "name": f"{role}-{schedule}-{seed}",
        "recipe": {
            "name": "reviews",
            "schedule": settings,
            "optimizer": {"name": "adamw", "learning_rate": peak, "betas": [0.9, 0.999]},
            "training": {"seed": seed, "batch_size": 8},
            "evaluation": {"select": "accuracy"},
        },
        "identity": {
            "data": {split: {"fingerprint": "f", "count": 10, "truncated": 0} for split in ("train", *splits)},
            "classes": ["negative", "positive"],
            "model": {
                "source": "a-model",
                "commit": None,
                "architecture": "Bert",
                "parameters": 10,
                "new_tensors": [],
                "initial_weights": f"w{seed}",
            },
            "batches": f"b{seed}",
            "seed": seed,
        },
        "schedule": {
            "settings": settings,
            "cooldown": None,
            "total_steps": 2,
            "updates_per_epoch": 1,
            "groups": [{"name": "decay", "peak": peak, "weight_decay": 0.01, "parameters": 10, "rates": [0.0, peak]}],
        },
        "environment": {
            "device": "cpu",
            "hardware": "a CPU",
            "processes": 1,
            "threads": 2,
            "accumulation": 1,
            "precision": "fp32",
            "platform": "Linux",
            "versions": {"torch": "2.13.0"},
        },
        "timing": {
            "started": "2026-01-01T00:00:00+00:00",
            "finished": "2026-01-01T00:02:00+00:00",
            "total_seconds": 120.0,
            "train_seconds": 100.0,
            "evaluation_seconds": 5.0,
            "samples_per_second": 160.0,
            "schedule_microseconds": 20.0,
        },
        "results": {
            "select": "accuracy",
            "kept": "best",
            "kept_step": 2,
            "splits": {split: {"count": 10, "loss": 0.5, "metrics": score} for split in splits},
            "best": evaluated,
            "last": evaluated,
        },
        "study": {
            "name": "s",
            "role": role,
            "keys": ["schedule"],
            "tuned": ["optimizer.learning_rate"],
            "reference": "cosine",
            "equivalence": 0.01,
            "target": 0.6,
        },
    }


def _files(record: dict[str, object]) -> dict[str, bytes]:
    """Returns the files of a run by their paths, as training leaves them."""
    run = record["name"]
    wrong = 5 - record["identity"]["seed"] % 3  # type: ignore[index]
    predictions = {"label": ["positive"] * 10, "prediction": ["negative"] * wrong + ["positive"] * (10 - wrong)}
    return {
        f"{run}/{RECORD}": _as_json(record),
        f"{run}/{HISTORY}": b"".join(_as_json(row, indent=None) for row in _history(record)),
        f"{run}/{PREDICTIONS}/test.parquet": _as_parquet(predictions),
    }


def _history(record: dict[str, object]) -> Iterator[dict[str, object]]:
    for step in (1, 2):
        at = {"step": step, "epoch": float(step), "seconds": step * 50.0}
        yield at | {"rates": {"decay": 1e-4}, "loss": 0.5, "gradient_norm": None}
        yield at | {"evaluation": record["results"]["best"]["validation"]}  # type: ignore[index]


def _as_json(value: object, indent: int | None = 2) -> bytes:
    return (json.dumps(value, indent=indent) + "\n").encode()


def _as_parquet(columns: dict[str, list[object]]) -> bytes:
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.table(columns), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def _spoilt_files(records: list[dict[str, object]], whole: dict[str, bytes], draw: random.Random) -> dict[str, bytes]:
    """Returns the spoilt files by their paths: one of the bytes of `whole`, or values of one or of all `records`."""
    kind = draw.random()
    if kind < 0.25:
        file = draw.choice(sorted(whole))
        return {file: change_bytes(whole[file], draw)}
    record = draw.choice(records)
    if kind < 0.35:
        return {f"{record['name']}/{PREDICTIONS}/test.parquet": _spoilt_predictions(draw)}
    if kind < 0.5:
        rows = [_changed(row, draw) if draw.random() < 0.5 else row for row in _history(record)]
        return {f"{record['name']}/{HISTORY}": b"".join(_as_json(row, indent=None) for row in rows)}
    chosen = records if draw.random() < 0.4 else [record]
    fate = draw.random()
    return {f"{each['name']}/{RECORD}": _as_json(_changed(each, random.Random(fate))) for each in chosen}


def _spoilt_predictions(draw: random.Random) -> bytes:
    def column() -> list[object]:
        value = draw.choice((None, 0, 1.5, True, "positive", b"x", "", [1], {"a": 1}, 2**62, float("nan")))
        return [value] * length

    length = draw.choice((0, 1, 10, 10, 10, 11))
    return _as_parquet(
        {name: column() for name in draw.choice((("label", "prediction"), ("label",), ("prediction", "label", "x")))}
    )


def _changed(tree: object, draw: random.Random) -> object:
    """Returns `tree` with up to three of its values replaced, left out, swapped, or replaced wherever they stand."""
    changed = copy.deepcopy(tree)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        places = list(_places(changed))
        if not places:
            break
        (parent, key), (other, name) = draw.choice(places), draw.choice(places)
        match draw.randrange(5):
            case 0:
                del parent[key]
            case 1:
                parent[key], other[name] = copy.deepcopy(other[name]), copy.deepcopy(parent[key])
            case 2:
                old, new = parent[key], draw.choice(VALUES)
                for holder, place in places:
                    if type(holder[place]) is type(old) and holder[place] == old:
                        holder[place] = copy.deepcopy(new)
            case _:
                parent[key] = copy.deepcopy(draw.choice(VALUES))
    return changed


def _places(tree: object) -> Iterator[tuple[object, object]]:
    """Yields every place of `tree` that holds a value: the mapping or list, and the key or position in it."""
    for key, value in [
        *(tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ())
    ]:
        yield tree, key
        yield from _places(value)
