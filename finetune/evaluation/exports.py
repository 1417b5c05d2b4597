"""An analysis as files that other tools read: a row per run, or the tables in Markdown."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finetune.errors import SettingError
from finetune.evaluation.analysis import Analyses, Analysis
from finetune.evaluation.comparison import Comparison
from finetune.evaluation.markdown import escaped, table_line
from finetune.evaluation.record import write_atomically
from finetune.evaluation.rows import Row
from finetune.evaluation.runs import RecordedRun
from finetune.evaluation.tables import TextTable, table_across, tables_of


def check_output(option: str, path: Path, *suffixes: str) -> None:
    """Raises SettingError, which names the `option`, for a path with none of `suffixes`, or that is a directory."""
    if path.suffix.lower() not in suffixes:
        raise SettingError(option, f"{path} doesn't end in {' or '.join(suffixes)}")
    if path.is_dir():
        raise SettingError(option, f"{path} is a directory; give a file in it")


def write_csv(analyses: Analyses, path: Path) -> None:
    """Writes a row per run, those that chose peak rates and those that diverged included; what isn't known is empty."""
    columns, rows = _table(analyses)

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)

    write_atomically(path, write)


def write_parquet(analyses: Analyses, path: Path) -> None:
    """Writes the same rows as `write_csv`, with types."""
    import pyarrow
    from pyarrow import parquet

    columns, rows = _table(analyses)
    table = pyarrow.table({column: [row.get(column) for row in rows] for column in columns})
    write_atomically(path, lambda temporary: parquet.write_table(table, temporary))


def _table(analyses: Analyses) -> tuple[list[str], list[dict[str, Any]]]:
    rows = [row for analysis in analyses.each for row in _runs_of(analysis.comparison)]
    return list(dict.fromkeys(column for row in rows for column in row)), rows


def _runs_of(comparison: Comparison) -> Iterator[dict[str, Any]]:
    for row in comparison.rows:
        for run in row.runs:
            yield _describe(run, comparison, row)
    for run in comparison.tuning:
        yield _describe(run, comparison, None)


def _describe(run: RecordedRun, comparison: Comparison, row: Row | None) -> dict[str, Any]:
    """Returns one run as a flat row. `row`: the one it is of; None for a run that chose a peak rate."""
    record = run.record
    described: dict[str, Any] = {
        "comparison": comparison.name,
        "row": row.name if row else None,
        "role": record.study.role if record.study else "final",
        "schedule": record.schedule.settings["name"],
        "schedule_settings": json.dumps(record.schedule.settings, sort_keys=True),
        "optimizer": record.recipe["optimizer"]["name"],
        "peak_rate": max(group.peak for group in record.schedule.groups),
        "seed": record.identity.seed,
        "status": record.status,
        "total_steps": record.schedule.total_steps,
        "updates_made": len(record.schedule.groups[0].rates),
        "train_seconds": record.timing.train_seconds,
        "total_seconds": record.timing.total_seconds,
        "samples_per_second": record.timing.samples_per_second,
        "schedule_microseconds": record.timing.schedule_microseconds,
        "device": record.environment.device,
        "hardware": record.environment.hardware,
        "precision": record.environment.precision,
    }
    if record.study and record.study.rung:
        described["rung"] = record.study.rung.number
    if record.results:
        described["best_step"] = record.results.best.step
        for split, result in record.results.splits.items():
            described |= {f"{split}_{name}": score.value for name, score in result.metrics.items()}
            described |= {f"{split}_{name}_standard_error": s.standard_error for name, s in result.metrics.items()}
    return described | {"run": str(run.path)}


def write_markdown(analyses: Analyses, path: Path) -> None:
    """Writes what the terminal shows, in Markdown; text from runs is escaped."""
    text = "\n".join(_markdown(analyses))
    write_atomically(path, lambda temporary: temporary.write_text(text + "\n", encoding="utf-8"))


def _markdown(analyses: Analyses) -> Iterator[str]:
    for analysis in analyses.each:
        yield from _section(analysis)
    across = table_across(analyses.across)
    if across:
        yield from _markdown_table(across)


def _section(analysis: Analysis) -> Iterator[str]:
    comparison = analysis.comparison
    yield f"## {escaped(comparison.name)}: {comparison.split} {escaped(comparison.metric)}"
    yield ""
    yield from (f"- {escaped(sentence)}" for sentence in [*analysis.conclusion, *analysis.cautions])
    for table in tables_of(analysis):
        yield from _markdown_table(table)


def _markdown_table(table: TextTable) -> Iterator[str]:
    yield from ("", *([f"### {escaped(table.title)}", ""] if table.title else []))
    yield table_line(table.columns)
    yield table_line([":--" if place < table.labels else "--:" for place in range(len(table.columns))], escape=str)
    yield from map(table_line, table.rows)
    yield ""
    yield from (f"{escaped(note)}  " for note in table.notes)
