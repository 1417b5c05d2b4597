"""Spoilt recipes and records by the thousand: each must end in a result or a FinetuneError, within its time.

.venv/bin/python -c "from tests.fuzzing import fuzz_recipes; print(fuzz_recipes(10_000, seed=0))"
"""

import copy
import io
import json
import math
import random
import re
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pyarrow
from pyarrow import parquet
from rich.console import Console

from finetune.errors import FinetuneError
from finetune.evaluation.analysis import analyse
from finetune.evaluation.record import HISTORY, PREDICTIONS, RECORD
from finetune.evaluation.runs import read_runs
from finetune.evaluation.terminal import print_analyses
from finetune.recipe import Recipe, is_study, load_recipe, load_study
from finetune.report.page import render
from finetune.schedules import Run

RECIPES = Path(__file__).parents[1] / "recipes"
LONGEST_SECONDS = 30
LONGEST_MESSAGE = 40_000
MOST_SHOWN = 20


@dataclass
class Counts:
    """How many spoilt inputs were given, and what came of them; `shown`: the first crashes, with their inputs."""

    injected: int = 0
    accepted: int = 0
    refused: int = 0
    crashes: int = 0
    shown: list[str] = field(default_factory=list)

    def add(self, attempt: Callable[[], object], describe: Callable[[], str]) -> None:
        """Counts what comes of `attempt`; a traceback, or one that takes too long, is a crash."""
        self.injected += 1
        try:
            with _time_limit():
                attempt()
            self.accepted += 1
        except FinetuneError as error:
            self.refused += 1
            if not _is_fit(str(error)):
                self._crashed(f"{describe()}\nrefused in words that aren't fit: {str(error)[:1000]!r}")
        except (Exception, _TooLong):  # noqa: BLE001 - it is what is sought
            self._crashed(f"{describe()}\n{traceback.format_exc(limit=-6)}")

    def _crashed(self, how: str) -> None:
        self.crashes += 1
        if len(self.shown) < MOST_SHOWN:
            self.shown.append(how)


def _is_fit(message: str) -> bool:
    """Whether a message says something, in not too many words, and can be printed without harm."""
    message.encode("utf-8")
    commands = re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", message)
    return bool(message.strip()) and len(message) < LONGEST_MESSAGE and not commands


class _TooLong(BaseException):
    """No Exception, so that no code under test takes it for one of its own."""


@contextmanager
def _time_limit() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise _TooLong(f"more than {LONGEST_SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, LONGEST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


TOKENS = (
    *"null ~ true false .inf -.inf .nan 0 -1 1 2 1e308 1e999 -1e-400 -1e-5 0.5 3.0 0.1.1 1e3 0x10 1_000 ½ ١٢ ٣% 1:30".split(),
    *"10% 100% 101% -5% 10%% 3ep 0ep 1e5ep ep % 64k 2M 5k\u00a0tokens 99999999999999999999999999 - - : , # ' \" ? @ ` & * ! | >".split(
        " "
    ),
    *"name schedule optimizer task data hub files train test validation path base study grid tuning seeds factors halving".split(),
    *"plugins groups parameters evaluation every training duration warmup cosine step wsd phases piecewise product".split(),
    *"layers freeze body embeddings head_rate rate_decay unfreeze reinitialise".split(),
    *"plateau adamw sgd accuracy f1_macro org/name ../org a/b CON . .. ../../x ~root ~nobody-such /etc/passwd /dev/zero".split(),
    *"https://user:password@host/x recipe.yaml recipe.yaml/x evil.py {{7*7}} <script> [red] [] {} [[]] [null] []x".split(),
    *"<<: *a &a !!int !<%ff>x !!binary %YAML --- ... >- |2 (?P<x .* (a+)+$ a{99999999999999}".split(),
    *(
        '"\\0"',
        '"\\e[31m"',
        '"\\ud800"',
        '"\\U99999999"',
        "{a: }",
        "[x, ~, 1]",
        "- -",
        "|\n  a",
        "!!python/object:os.system",
    ),
    *(
        "!!python/object/apply:os.mkdir [canary]",
        "\x00",
        "\x1b[31m",
        "\t",
        "\x85",
        "\u2028",
        "\ud800",
        "\u202e",
        "\ufeff",
        "😀",
    ),
    *(
        "9" * 5000,
        "9" * 400 + " tokens",
        "0." + "0" * 5000 + "1",
        "1e" + "9" * 400,
        "x" * 300,
        "x" * 20_000,
        "(" * 3000,
    ),
    *("[" * 300, "[" * 5000, "[" * 100 + "]" * 100, "{a: " * 300, "- " * 300),
)

SNIPPETS = (
    "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
    "name: !!python/object/apply:os.system [true]\n",
    "<<: {name: x}\n",
    "base: recipe.yaml\n",
    "%YAML 1.2\n---\nname: x\n...\n---\nname: y\n",
    "? [a, b]\n: c\n? {a: b}\n: d\n",
    "schedule: {of: [cosine, {name: step, gamma: 0.5, every: 20%}]}\n",
    "schedule: {phases: [{schedule: linear, duration: 30%}, {schedule: cosine, peak: 0.5}]}\n",
    "schedule: {name: piecewise, points: [[0%, 0.2], [50%, 1.0], [100%, 0]]}\n",
    "schedule: {name: wsd, cooldown: 30%, warmup: 2ep, floor: 0.1, shape: sqrt}\n",
    "groups: {encoder: {parameters: bert, learning_rate: 1e-5, schedule: {floor: 0.1}}, head: {parameters: classifier}}\n",
    "layers: {freeze: ['^bert.embed', bias$], head_rate: 10, rate_decay: 0.9, unfreeze: {every: 10%}, reinitialise: 2}\n",
    "checkpoints: {every: 0.5ep, keep: 2}\ntracking: [tensorboard]\nplugins: [mine.py]\noutput: elsewhere\n",
    "study: {grid: {schedule: [cosine, linear], training: {seed: [0, 1]}}, tuning: {factors: [0.5, 1, 2], seeds: [9], halving: 4}}\n",
    "study: {grid: {optimizer: [sgd, {name: adamw, learning_rate: 1e-4}], schedule.warmup: [0, 5%]}, equal_area: true}\n",
    "data: {hub: imdb, revision: main, examples: {train: 10}}\nmodel: bert\n",
    "trust_remote_code: true\nplugins: [evil.py, ./evil.py, /dev/zero, ../evil.py]\n",
    "base: /etc/passwd\nname: ../../x\noutput: /\n",
    "model: {path: a, hub: b/../c, token: hf_abcdefghijklmnop, revision: ../x}\n",
    "x: !!python/object/apply:os.mkdir [canary]\n",
    "schedule: " + "{of: [" * 14 + "cosine" + "]}" * 14 + "\n",
    "schedule: " + "{phases: [{schedule: " * 9 + "cosine" + "}]}" * 9 + "\n",
    "".join(" " * depth + "a:\n" for depth in range(300)),
    "".join(f"key{number}: {number}\n" for number in range(2000)),
    "data: {files: {train: [" + "a.csv, " * 3000 + "], validation: v.csv}}\n",
    "groups: {a: {parameters: '(a+)+$'}, '../x': {parameters: a}, decay: {parameters: b}}\n",
    "study: {grid: {training.seed: [" + ", ".join(map(str, range(200))) + "], optimizer.eps: [1e-8, 1e-7]}}\n",
    "study: {grid: {name: [a, b], schedule: [cosine, cosine], x.y: [1, 2], '': [1]}, tuning: {factors: [], seeds: 1}}\n",
    "study: {grid: {schedule.of: [[cosine, {of: [linear]}], [1]], training: [1, {seed: 2}]}}\n",
    "study: ~\nbase: ~\nplugins: ~\ntracking: ~\ngroups: ~\nschedule: ~\n",
)


def fuzz_recipes(count: int, seed: int) -> Counts:
    """Reads `count` spoilt recipes: bytes, lines and words of the shipped ones and of hostile snippets are changed."""
    draw = random.Random(seed)
    counts = Counts()
    shipped = {path.name: path.read_text(encoding="utf-8") for path in sorted(RECIPES.glob("*.yaml"))}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # A plugin that leaves a trace if it is ever run.
        files = shipped | {"evil.py": f"open({str(folder / 'canary')!r}, 'w').close()\n"}
        for file, text in files.items():
            (folder / file).write_text(text, encoding="utf-8")
        path = folder / "recipe.yaml"
        for _ in range(count):
            content = spoilt_recipe(list(shipped.values()), draw)
            overrides = [f"{draw.choice(TOKENS)}={draw.choice(TOKENS)}"] if draw.random() < 0.05 else []
            path.write_bytes(content)
            counts.add(partial(_read_recipe, path, overrides), lambda content=content: repr(content))  # type: ignore[misc]
        left = {file.name for file in folder.rglob("*")}
        assert left == {*files, path.name}, f"reading recipes wrote {left}"
    return counts


def _read_recipe(path: Path, overrides: list[str]) -> None:
    """Reads the recipe or the study as the command line does, and holds what comes of it to what a recipe promises."""
    if is_study(path, overrides):
        recipes = [setting.recipe for setting in load_study(path, overrides).settings[:3]]
    else:
        recipes = [load_recipe(path, overrides)]
    for recipe in recipes:
        _hold_to_promises(recipe, path.with_name("again.yaml"))


def _hold_to_promises(recipe: Recipe, again: Path) -> None:
    """Its names are of folders within a folder, it reads back equal, and its schedules give rates or say why not."""
    for name in (recipe.name, recipe.schedule.name):
        assert Path(name).parts == (name,)
        assert name != ".."
    again.write_text(recipe.to_yaml(), encoding="utf-8")
    try:
        assert load_recipe(again) == recipe
    finally:
        again.unlink()
    run = Run(total_steps=100, updates_per_epoch=10, samples_per_update=8, tokens_per_update=800)
    for schedule in (recipe.schedule, *map(recipe.schedule_of, recipe.groups)):
        factor = schedule.over(run, peak=recipe.optimizer.learning_rate)
        assert all(math.isfinite(factor(step)) for step in (0, 1, 50, 99, 100))


def spoilt_recipe(texts: list[str], draw: random.Random) -> bytes:
    """Returns a recipe of `texts` or a snippet, or both, with up to six changes."""
    text = draw.choice(texts) if draw.random() < 0.8 else ""
    if not text or draw.random() < 0.3:
        text += draw.choice(SNIPPETS)
    for _ in range(draw.choice((0, 1, 1, 1, 2, 3, 6))):
        text = draw.choice((_change_line, _change_word, _change_word))(text, draw)
    content = text.encode("utf-8", "surrogatepass")
    return change_bytes(content, draw) if draw.random() < 0.25 else content


def _change_line(text: str, draw: random.Random) -> str:
    lines = text.splitlines(keepends=True) or [""]
    here, there = draw.randrange(len(lines)), draw.randrange(len(lines))
    match draw.randrange(6):
        case 0:
            del lines[here]
        case 1:
            lines.insert(there, lines[here])
        case 2:
            lines[here], lines[there] = lines[there], lines[here]
        case 3:
            lines[here] = " " * draw.randrange(5) + lines[here].lstrip()
        case 4:
            lines[here] = f"{lines[here].partition(':')[0]}: {draw.choice(TOKENS)}\n"
        case _:
            lines.insert(here, draw.choice(SNIPPETS))
    return "".join(lines)


def _change_word(text: str, draw: random.Random) -> str:
    words = list(re.finditer(r"[^\s,:\[\]{}]+", text))
    if not words:
        return draw.choice(TOKENS)
    start, end = draw.choice(words).span()
    other = draw.choice(words)[0] if draw.random() < 0.3 else draw.choice(TOKENS)
    return text[:start] + other + text[end:]


def change_bytes(content: bytes, draw: random.Random) -> bytes:
    """Returns `content` with a bit turned over, or a stretch of it left out, given twice, or made up."""
    if not content:
        return draw.randbytes(4)
    start = draw.randrange(len(content))
    end = min(len(content), start + draw.choice((1, 2, 8, 64)))
    match draw.randrange(5):
        case 0:
            return content[:start]
        case 1:
            return content[:start] + bytes([content[start] ^ (1 << draw.randrange(8))]) + content[start + 1 :]
        case 2:
            return content[:start] + content[end:]
        case 3:
            return content[:end] + content[start:]
        case _:
            return content[:start] + draw.randbytes(end - start) + content[end:]


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
