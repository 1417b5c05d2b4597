"""Spoilt recipes: the shipped ones and hostile snippets, with bytes, words and lines changed.

.venv/bin/python -c "from tests.spoilt_recipes import fuzz_recipes; print(fuzz_recipes(10_000, seed=0))"
"""

import math
import random
import re
import tempfile
from functools import partial
from pathlib import Path

from finetune.recipe import Recipe, is_study, load_recipe, load_study
from finetune.schedules import Run
from tests.fuzzing import Counts, change_bytes

RECIPES = Path(__file__).parents[1] / "recipes"


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
