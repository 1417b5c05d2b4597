"""What the runs of a study have in common: the tree of the updates that one run can make for several.

Two runs that are alike in all but their schedule are one run for as long as their rates are equal, bit for bit: cosine
and linear while they warm up, a constant rate and WSD until the cooldown. Such a stretch, a trunk, is trained once, and
every run that passes through it goes on from its end. Data are drawn by seed and epoch, and an evaluation leaves no
trace in what is trained, so that the length of a run tells nothing apart; but evaluations are part of a run's history,
so that runs which evaluate at other distances stay apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from finetune.errors import counted

Values = np.ndarray[Any, np.dtype[np.float64]]

LEAST_UPDATES = 5
"""The shortest trunk: a checkpoint to go on from takes about as long as an update or two of a small model on a CPU."""


@dataclass(frozen=True)
class Course:
    """A run in plain values. `values`: an array for each thing that every update is given anew, one number an update.

    Between two runs of one `kind` nothing but these values makes a difference, and they are compared by their bits.
    """

    name: str
    kind: str
    values: tuple[Values, ...]

    @property
    def updates(self) -> int:
        """How many updates the run has."""
        return len(self.values[0])


@dataclass(frozen=True)
class Segment:
    """Updates `start` … `end` − 1, made once for all of `runs`.

    `parent`: the number of the segment that it goes on from, None where it begins with the pretrained model.
    """

    start: int
    end: int
    runs: tuple[int, ...]
    parent: int | None

    @property
    def updates(self) -> int:
        """How many updates it has."""
        return self.end - self.start


@dataclass(frozen=True)
class Tree:
    """All segments in the order to make them in: a trunk before its branches, and each branch to its end.

    `names` and `lengths`, in updates, are those of the runs, which are known by their number. Runs that end in the same
    segment are the same run.
    """

    names: tuple[str, ...]
    lengths: tuple[int, ...]
    segments: tuple[Segment, ...]

    @cached_property
    def branches(self) -> tuple[tuple[int, ...], ...]:
        """Of each segment, the numbers of those that go on from its end."""
        branches: list[list[int]] = [[] for _ in self.segments]
        for number, segment in enumerate(self.segments):
            if segment.parent is not None:
                branches[segment.parent].append(number)
        return tuple(map(tuple, branches))

    @property
    def forks(self) -> int:
        """How many segments others go on from, each of which leaves a checkpoint."""
        return sum(map(bool, self.branches))

    @property
    def updates(self) -> int:
        """How many updates make all runs."""
        return sum(segment.updates for segment in self.segments)

    @property
    def saved(self) -> int:
        """How many updates fewer that is than if every run made its own."""
        return sum(self.lengths) - self.updates

    def ending(self, number: int) -> tuple[int, ...]:
        """Returns the runs whose last update is the last of segment `number`."""
        segment = self.segments[number]
        return tuple(run for run in segment.runs if self.lengths[run] == segment.end)


def grow(courses: Sequence[Course], *, least_updates: int = LEAST_UPDATES) -> Tree:
    """Returns the tree of `courses`, the runs still to be made, whose trunks have at least `least_updates` (or 1).

    Where a trunk would be shorter, its branches each begin where it would have begun.
    """
    kinds: dict[tuple[str, int], list[int]] = {}
    for number, course in enumerate(courses):
        kinds.setdefault((course.kind, len(course.values)), []).append(number)
    segments: list[Segment] = []
    for runs in kinds.values():
        segments += _segments(_Sorted.of(courses, runs), least_updates=max(1, least_updates), after=len(segments))
    names, lengths = [course.name for course in courses], [course.updates for course in courses]
    return Tree(tuple(names), tuple(lengths), tuple(segments))


@dataclass(frozen=True)
class _Sorted:
    """Runs of one kind, in an order in which all that share a start are neighbours.

    `lengths`: of each, in updates; `shared`: how many of its first updates are those of the run before it.
    """

    runs: list[int]
    lengths: list[int]
    shared: np.ndarray[Any, np.dtype[np.int64]]

    @classmethod
    def of(cls, courses: Sequence[Course], runs: Sequence[int]) -> _Sorted:
        """Sorts `runs`, which are numbers of `courses`."""
        bits = {run: np.stack(courses[run].values, axis=1, dtype=np.float64).tobytes() for run in runs}
        runs, width = sorted(runs, key=bits.__getitem__), len(courses[runs[0]].values)
        shared = [_equal_start(bits[one], bits[other]) // width for one, other in pairwise(runs)]
        return cls(runs, [courses[run].updates for run in runs], np.array([0, *shared]))

    def split(self, low: int, high: int) -> tuple[int, list[tuple[int, int]]]:
        """Returns up to which update the runs at places `low` … `high` − 1 are one, and the places of its parts then.

        Those that end there are one part; the parts come in the order of their first runs.
        """
        end = int(self.shared[low + 1 : high].min()) if high - low > 1 else self.lengths[low]
        places = (np.flatnonzero(self.shared[low + 1 : high] == end) + low + 1).tolist()
        cuts = [low, *(place for place in places if self.lengths[place] > end), high]
        return end, sorted(pairwise(cuts), key=lambda part: min(self.runs[slice(*part)]))


def _equal_start(one: bytes, other: bytes) -> int:
    """Returns how many numbers of 8 bytes are equal before the first that isn't."""
    shorter = min(len(one), len(other)) // 8
    differ = np.frombuffer(one, np.int64, shorter) != np.frombuffer(other, np.int64, shorter)
    return int(differ.argmax()) if differ.any() else shorter


def _segments(runs: _Sorted, *, least_updates: int, after: int) -> list[Segment]:
    """Returns the segments of runs of one kind, numbered from `after` on."""
    segments: list[Segment] = []
    waiting: list[tuple[tuple[int, int], int, int | None]] = [((0, len(runs.runs)), 0, None)]
    while waiting:
        (low, high), start, parent = waiting.pop()
        end, parts = runs.split(low, high)
        if len(parts) == 1 or end - start >= least_updates:
            segments.append(Segment(start, end, tuple(sorted(runs.runs[low:high])), parent))
            start, parent = end, after + len(segments) - 1
        waiting += [(part, start, parent) for part in reversed(parts) if runs.lengths[part[0]] > start]
    return segments


def describe(tree: Tree) -> list[str]:
    """Returns lines that show the trunks, what they branch into, and what is saved.

    Trees that are alike, as over seeds, are shown once under all that they stand for; runs that share nothing are
    only counted.
    """
    roots = [number for number, segment in enumerate(tree.segments) if segment.parent is None]
    alone = [tree.segments[root].updates for root in roots if len(tree.segments[root].runs) == 1]
    alike: dict[tuple[_Row, ...], Counter[str]] = {}
    for root in roots:
        if len(tree.segments[root].runs) > 1:
            rest, rows = _rows(tree, root)
            alike.setdefault(rows, Counter())[rest] += 1
    lines = [line for rows, where in alike.items() for line in (*_headings(where), *_aligned(rows))]
    if alone and lines:
        lines.append(f"{counted(len(alone), 'run')} with no start in common: {counted(sum(alone), 'update')}")
    return [*lines, _total(tree)]


_Row = tuple[str, str, str]
"""A segment as it is shown: where it is in the tree and in the run, its updates, and the runs it is made for."""


def _rows(tree: Tree, root: int) -> tuple[str, tuple[_Row, ...]]:
    """Returns the words at the end of all names of a tree, and a row for each of its segments, without those words."""
    words = {run: tree.names[run].split(", ") for run in tree.segments[root].runs}
    common = _common_end(list(words.values()))
    names = {run: ", ".join(own[: len(own) - common]) for run, own in words.items()}
    rows, waiting = [], [(root, "", "")]
    while waiting:
        number, hook, indent = waiting.pop()
        segment, branches = tree.segments[number], tree.branches[number]
        span = f"{hook}{segment.start:,}–{segment.end:,}"
        rows.append((span, f"{segment.updates:,}", _passing(tree, number, names)))
        hooks = [*[("├─ ", "│  ")] * (len(branches) - 1), ("└─ ", "   ")]
        below = [(branch, indent + hook, indent + rest) for branch, (hook, rest) in zip(branches, hooks, strict=False)]
        waiting += reversed(below)
    some = next(iter(words.values()))
    return ", ".join(some[len(some) - common :]), tuple(rows)


def _common_end(texts: Sequence[Sequence[str]]) -> int:
    """Returns how many of the last words are the same in all, of which each keeps its first."""
    count = 0
    while count < min(map(len, texts)) - 1 and len({words[-1 - count] for words in texts}) == 1:
        count += 1
    return count


def _passing(tree: Tree, number: int, names: Mapping[int, str]) -> str:
    ends = " = ".join(dict.fromkeys(names[run] for run in tree.ending(number)))
    if not tree.branches[number]:
        return ends
    return f"{len(tree.segments[number].runs)} runs" + (f"; {ends} ends here" if ends else "")


def _headings(where: Mapping[str, int]) -> list[str]:
    """Returns the lines that say what the rows under them stand for: the end of the names ▶ how often there is one."""
    lines = (f"{rest} × {count} seeds" if count > 1 else rest for rest, count in where.items())
    return [line.strip() for line in lines if line]


def _aligned(rows: Sequence[_Row]) -> list[str]:
    place, updates = (max(len(row[column]) for row in rows) for column in (0, 1))
    return [f"  {row[0]:<{place}}  {row[1]:>{updates}}  {row[2]}" for row in rows]


def _total(tree: Tree) -> str:
    if not tree.saved:
        return f"{counted(tree.updates, 'update')}; no two runs share enough of them"
    alone = sum(tree.lengths)
    saved = f"{tree.saved:,} ({tree.saved / alone:.1%}) saved"
    return f"{counted(tree.updates, 'update')} instead of {alone:,}: {saved}, by {counted(tree.forks, 'fork')}"
