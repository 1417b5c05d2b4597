"""A comparison as a table in the terminal."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from finetune.evaluation.comparison import Comparison, Row
from finetune.evaluation.contrasts import LEVEL, Contrast, contrasts

_UNLIMITED = 10_000


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Prints the rows of `comparison`, what the figures are, and its cautions."""
    metric, split = comparison.metric, comparison.split
    others = list(comparison.rows[0].others)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for key in ["schedule", *others]:
        table.add_column(key, no_wrap=True)
    headings = ["runs", f"{split} {metric}"]
    headings += ["validation"] if split == "test" else []
    for heading in [*headings, "update", "train s", "samples/s"]:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in comparison.rows:
        cells = _cells(comparison, row) if row.finished else iter(["diverged"])
        table.add_row(row.label, *(_plain(row.others[key]) for key in others), str(len(row.records)), *cells)
    _print_whole(table, console)
    _say(console, [f"{row.label}: {row.schedule}" for row in comparison.rows])
    _print_contrasts(comparison, contrasts(comparison), console)
    _say(console, ["", _legend(comparison), *comparison.cautions])


def _print_contrasts(comparison: Comparison, found: Sequence[Contrast], console: Console) -> None:
    several = [contrast for contrast in found if contrast.interval is not None]
    if not several:
        return
    _say(console, ["", f"Differences in {comparison.split} {comparison.metric}, paired by seed:"])
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    for _ in range(4):
        table.add_column(no_wrap=True)
    for contrast in several:
        table.add_row(f"{contrast.first} − {contrast.second}", *_contrast_cells(contrast))
    _print_whole(table, console)
    tested = [contrast for contrast in several if contrast.adjusted is not None]
    if tested:
        _say(console, _conclusion(tested))


def _contrast_cells(contrast: Contrast) -> Iterator[str]:
    interval = contrast.interval
    assert interval is not None  # noqa: S101 - the caller's condition
    yield f"{interval.estimate:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]"
    yield f"{len(contrast.seeds)} seeds"
    if contrast.p_value is None:
        yield "too few to test"
    else:
        yield f"p {contrast.p_value:.3f}, adjusted {contrast.adjusted:.3f}"


def _conclusion(tested: Sequence[Contrast]) -> Iterator[str]:
    shown = [f"{contrast.first} and {contrast.second}" for contrast in tested if contrast.is_shown]
    yield (
        f"Mean, its {LEVEL:.0%} interval, and the exact sign-flip test, adjusted for {len(tested)} "
        f"comparison{'s' * (len(tested) > 1)} (Holm). "
        + (f"Shown to differ at 5%: {'; '.join(shown)}." if shown else "None is shown to differ at 5%.")
    )
    fewest = min(len(contrast.seeds) for contrast in tested)
    if 2 ** (1 - fewest) * len(tested) > 1 - LEVEL:
        needed = next(seeds for seeds in range(2, 99) if 2 ** (1 - seeds) * len(tested) <= 1 - LEVEL)
        yield f"With {fewest} seeds none could be: the test can reach 5% for all of them with {needed} seeds or more."


def _say(console: Console, lines: Iterable[str]) -> None:
    for line in lines:
        console.print(line, markup=False, highlight=False)


def _print_whole(table: Table, console: Console) -> None:
    """Prints `table` at its natural width: where the window is narrower, whole lines wrap, and no cell is cut short."""
    table.width = console.measure(table, options=console.options.update(max_width=_UNLIMITED)).maximum
    console.print(table, crop=False)


def _cells(comparison: Comparison, row: Row) -> Iterator[str]:
    metric = comparison.metric
    yield _score(row, comparison.split, metric)
    bests = [record.results.best for record in row.finished if record.results]
    if comparison.split == "test":
        yield f"{statistics.fmean(best.validation[metric] or 0.0 for best in bests):.4f}"
    yield f"{statistics.median(best.step for best in bests):.0f}"
    yield f"{row.median('train_seconds'):.1f}"
    yield f"{row.median('samples_per_second'):.0f}"


def _score(row: Row, split: str, metric: str) -> str:
    scores = row.scores(split, metric)
    if len(scores) == 1:
        return f"{scores[0]:.4f} ± {row.standard_error(split, metric):.4f}"
    return f"{statistics.fmean(scores):.4f} [{min(scores):.4f}–{max(scores):.4f}]"


def _legend(comparison: Comparison) -> str:
    one = any(len(row.finished) == 1 for row in comparison.rows)
    many = any(len(row.finished) > 1 for row in comparison.rows)
    forms = ["value ± standard error over examples" if one else "", "mean [least–greatest] over runs" if many else ""]
    kinds = " or ".join(form for form in forms if form)
    judged = f"{comparison.split} {comparison.metric}: {comparison.count:,} examples, {kinds}"
    if comparison.split == "validation":
        return f"{judged}; update: where it was best."
    return f"{judged}, read once by each kept model; validation: the best {comparison.metric}, at that update."


def _plain(value: object) -> str:
    return "–" if value is None else str(value)
