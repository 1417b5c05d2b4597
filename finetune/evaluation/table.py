"""A comparison as a table in the terminal."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.table import Table

from finetune.evaluation.comparison import Comparison, Row

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
    # Where the window is narrower than the table, it wraps whole lines: a cell cut short could be misread.
    table.width = console.measure(table, options=console.options.update(max_width=_UNLIMITED)).maximum
    console.print(table, crop=False)
    lines = [f"{row.label}: {row.schedule}" for row in comparison.rows]
    for line in [*lines, "", _legend(comparison), *comparison.cautions]:
        console.print(line, markup=False, highlight=False)


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
