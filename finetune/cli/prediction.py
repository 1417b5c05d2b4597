"""`finetune predict`: what a run's model says of rows that have no labels yet."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.text import Text

from finetune.errors import counted
from finetune.inference.finished import FinishedRun
from finetune.inference.given import given_rows
from finetune.inference.predictor import Predictor
from finetune.inference.tables import JsonLines, TableWriter, beside, check_kept, table_file
from finetune.untrusted import visible

PART_ROWS = 10_000
"""How many rows are predicted at a time, which bounds the memory that a file of any length takes."""


def predict(
    run: FinishedRun,
    files: Sequence[str],
    load: Callable[[], Predictor],
    *,
    piped_format: str,
    output: Path | None,
    keep_columns: bool,
    part_rows: int = PART_ROWS,
) -> None:
    """Writes a row of predictions for each row of `files` to `output`, or as JSON lines to standard output.

    All that `files` must have is checked before `load` is called for the model.
    """
    with given_rows(files, piped_format=piped_format, naming_files=run.task.naming_files) as rows:
        run.task.read_for(rows, run.classes, labelled=False)
        kept = rows.columns if keep_columns else []
        check_kept(rows.as_read.select(kept), output)
        predictor = load()
        with _writer(output) as writer:
            for part in rows.parts(part_rows):
                writer.write(beside(part.as_read.select(kept), predictor.predict(part)))
        if output is not None:
            _tell(f"{output}: {counted(len(rows), 'row')}")


def _tell(line: str) -> None:
    Console(stderr=True, soft_wrap=True).print(Text(visible(line)))


@contextmanager
def _writer(output: Path | None) -> Iterator[TableWriter]:
    if output is None:
        yield JsonLines(sys.stdout, ascii_only=sys.stdout.isatty())
    else:
        with _ending_in_order(), table_file(output) as writer:
            yield writer


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """Has SIGTERM unwind what is going on meanwhile, so that what was written aside is removed."""
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
