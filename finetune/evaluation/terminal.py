"""What was found, in the terminal: first in words, then in tables."""

from __future__ import annotations

from collections.abc import Iterable
from textwrap import wrap

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from finetune.evaluation.analysis import Analyses, Analysis
from finetune.evaluation.tables import TextTable, table_across, tables_of
from finetune.untrusted import visible

_UNLIMITED = 10_000


def print_analyses(analyses: Analyses, console: Console) -> None:
    """Prints every analysis, and the schedules over all their contexts."""
    for number, analysis in enumerate(analyses.each):
        if number:
            say(console, [""])
        _print_analysis(analysis, console)
    across = table_across(analyses.across)
    if across:
        print_table(across, console)


def _print_analysis(analysis: Analysis, console: Console) -> None:
    comparison = analysis.comparison
    say(console, [f"{comparison.name}: {comparison.judged}"])
    sentences = [*analysis.conclusion, *analysis.cautions]
    if sentences:
        say(console, ["", *(f"• {sentence}" for sentence in sentences)])
    for table in tables_of(analysis):
        print_table(table, console)


def print_table(table: TextTable, console: Console) -> None:
    """Prints `table` at its natural width: where the window is narrower, whole lines wrap, and no cell is cut short."""
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for number, column in enumerate(table.columns):
        right = number >= table.labels and column != "verdict"
        shown.add_column(_text(column), justify="right" if right else "left", no_wrap=True)
    for row in table.rows:
        shown.add_row(*map(_text, row))
    shown.width = console.measure(shown, options=console.options.update(max_width=_UNLIMITED)).maximum
    say(console, ["", *([f"{table.title}:"] if table.title else [])])
    console.print(shown, crop=False)
    say(console, table.notes)


def say(console: Console, lines: Iterable[str]) -> None:
    """Prints lines, whatever stands in them; those that are wider than a terminal are broken at words, those of a list
    set in."""
    for line in map(visible, lines):
        width = console.width if console.is_terminal else _UNLIMITED
        for part in wrap(line, width, subsequent_indent="  " * line.startswith("• ")) or [""]:
            console.print(Text(part), highlight=False, soft_wrap=True)


def _text(words: str) -> Text:
    """Returns `words` as they stand: nothing that a stranger wrote in a record is markup, or commands the terminal."""
    return Text(visible(words))
