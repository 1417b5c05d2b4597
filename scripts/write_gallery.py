"""Writes docs/gallery.md, a picture of every schedule of the catalogue under a few settings, and docs/gallery/.

    .venv/bin/python scripts/write_gallery.py [--check]

With --check it writes nothing, and fails where one of them isn't as it would be written. Of a picture the names and the
lines are compared: where its words stand depends on the fonts of the machine.
"""

from __future__ import annotations

import io
import json
import re
import shlex
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from written_files import ROOT, main

from finetune.cli.schedules import EXAMPLES, plot
from finetune.schedules import SCHEDULES, Schedule, Warmed

UPDATES = 200
CLOSE = 2e-3
"""How far apart a line may be in two pictures, as a share of its width or height: half a pixel."""

SETTINGS: dict[str, list[str]] = {
    "constant": ["warmup=10%", "warmup=30% warmup_shape=cosine"],
    "linear": ["warmup=10%", "warmup=10% floor=0.2"],
    "polynomial": ["power=1.5", "power=2", "power=4"],
    "cosine": ["warmup=10%", "warmup=10% k_decay=3", "waves=1.5 floor=0.1"],
    "step": ["gamma=0.5 every=20%", "gamma=0.1 every=40%"],
    "multistep": ["gamma=0.3", "gamma=0.5 milestones='[30%, 60%, 90%]'"],
    "exponential": ["final=0.05", "final=0.3", "gamma=0.5 every=20%"],
    "inverse_sqrt": ["warmup=5%", "warmup=20%", "timescale=5"],
    "wsd": ["warmup=10% cooldown=30%", "warmup=10% cooldown=50% shape=linear"],
    "knee": ["explore=30%", "explore=70% floor=0.1"],
    "rex": ["beta=0.2", "beta=0.5", "beta=1"],
    "one_cycle": ["", "warmup=50% warmup_shape=linear"],
    "cosine_restarts": ["first=20% growth=2 decay=0.8", "first=25%"],
    "cyclic": ["", "mode=triangular2"],
    "phases": ["phases='[{schedule: linear, duration: 50%}, {schedule: cosine, peak: 0.5}]'"],
    "product": ["of='[cosine, {name: step, gamma: 0.6, every: 25%}]'"],
    "piecewise": ["points='[[0%, 0.2], [15%, 1], [50%, 0.5], [80%, 0.4], [100%, 0]]'"],
    "plateau": ["gamma=0.5", "gamma=0.2"],
}
"""The settings that each is drawn under; those in `EXAMPLES` where it has none here."""

INTRODUCTION = f"""# The gallery of schedules

Every schedule that `finetune schedules list` has, by its formula and as it looks over {UPDATES} updates; this page is
written by `scripts/write_gallery.py`. With t the updates already made, T those of the run, W those of the warmup,
τ = t − W, p = τ/(T − W) and m the floor, the formula gives the factor of the peak rate after the warmup.
[Schedules](schedules.md) says what all have in common, and the [recipe](recipe.md#schedule) has every setting. Each
picture is drawn by the command above it; `plateau` as if evaluations had stopped improving three times.
"""


def written(names: Iterable[str] = SCHEDULES) -> dict[Path, str]:
    """Returns each file of the gallery, of the pictures those of `names`, and its text."""
    docs = ROOT / "docs"
    files = {docs / "gallery.md": page()}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            picture = Path(folder) / f"{name}.svg"
            with redirect_stdout(io.StringIO()):
                plot(specs_of(name), updates=UPDATES, output=picture)
            files[docs / "gallery" / picture.name] = picture.read_text(encoding="utf-8")
    return files


def page() -> str:
    """Returns the text of docs/gallery.md."""
    return "\n".join([INTRODUCTION, *_lines()])


def specs_of(name: str) -> list[str]:
    """Returns the schedules of that name that are drawn, as the command line takes them."""
    if name in SETTINGS:
        return [f"{name} {settings}".rstrip() for settings in SETTINGS[name]]
    example = EXAMPLES.get(name, {"warmup": "10%"} if issubclass(SCHEDULES[name], Warmed) else {})
    return [json.dumps({"name": name, **example})]


def _lines() -> Iterator[str]:
    for name, schedule in SCHEDULES.items():
        specs = specs_of(name)
        shown = " ".join(map(_quoted, specs))
        yield f"## {name}\n"
        yield f"{_about(schedule)}\n"
        yield f"    finetune schedules plot {shown} --updates {UPDATES} --output {name}.svg\n"
        yield f"![The factor of {name} over {UPDATES} updates](gallery/{name}.svg)\n"


def _quoted(spec: str) -> str:
    """Returns the words of a command that give `spec`, in double quotes where that can be, which is easier to read."""
    if " " not in spec or any(sign in spec for sign in '"$`\\'):
        return shlex.quote(spec)
    return f'"{spec}"'


def _about(schedule: type[Schedule]) -> str:
    source = f" From {schedule.source}." if schedule.source else ""
    return f"{(schedule.__doc__ or '').strip().splitlines()[0]} `{schedule.formula}`.{source}"


def same(old: str, new: str) -> bool:
    """Whether two texts are equal, or two pictures have the same names and lines."""
    if not new.startswith("<svg"):
        return old == new
    return names_in(old) == names_in(new) and _close(lines_in(old), lines_in(new))


def names_in(picture: str) -> set[str]:
    """Returns all words of a picture."""
    return {name.strip() for name in re.findall(r">([^<>]+)</text>", picture)}


def lines_in(picture: str) -> list[list[tuple[float, float]]]:
    """Returns the points of each line that is a curve, as shares of the span of all, from the left and from the top."""
    marks = re.findall(r'aria-roledescription="line mark"[^>]*? d="([^"]*)"', picture)
    marks += re.findall(r' d="([^"]*)"[^>]*aria-roledescription="line mark"', picture)
    lines = [[(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+),(-?[\d.]+)", mark)] for mark in marks]
    points: Sequence[tuple[float, float]] = [point for line in lines for point in line]
    if not points:
        return []
    (left, right), (top, bottom) = [(min(each), max(each)) for each in zip(*points, strict=True)]
    across, down = right - left or 1.0, bottom - top or 1.0
    return [[((x - left) / across, (y - top) / down) for x, y in line] for line in lines]


def _close(old: Any, new: Any) -> bool:
    if isinstance(old, list | tuple):
        return len(old) == len(new) and all(map(_close, old, new))
    return abs(old - new) <= CLOSE


if __name__ == "__main__":
    sys.exit(main("scripts/write_gallery.py", str(__doc__), written, same=same))
