"""`finetune compare`: recorded runs, analysed, on the terminal and in files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune.cli.naming import naming_options
from finetune.cli.speech import console_of, print_json
from finetune.errors import SettingError
from finetune.evaluation.analysis import Analyses, Question, analyse
from finetune.evaluation.exports import check_output, write_csv, write_markdown, write_parquet
from finetune.evaluation.plain import as_plain
from finetune.evaluation.runs import read_runs
from finetune.evaluation.terminal import print_analyses, say

ALONE = "One schedule has nothing to be compared with: finetune run RECIPE schedule=NAME makes a run of another."


@dataclass(frozen=True)
class Outputs:
    """The files to write, and the folder for the report's figures; None: not asked for."""

    html: Path | None = None
    csv: Path | None = None
    parquet: Path | None = None
    markdown: Path | None = None
    figures: Path | None = None

    def check(self) -> None:
        """Raises SettingError for a path that doesn't fit its format."""
        for option, suffixes in _SUFFIXES.items():
            path = getattr(self, option)
            if path is not None:
                check_output(f"--{option}", path, *suffixes)
        if self.figures is not None and self.figures.is_file():
            raise SettingError("--figures", f"{self.figures} is a file; give a folder, for a file of each figure")

    def writers(self) -> Iterator[tuple[Path, Callable[[Analyses, Path], object]]]:
        """Yields each file that was asked for, with what writes it."""
        if self.html is not None:
            from finetune.report import write_report

            yield self.html, write_report
        if self.figures is not None:
            from finetune.report import write_figures

            yield self.figures, write_figures
        for path, write in ((self.csv, write_csv), (self.parquet, write_parquet), (self.markdown, write_markdown)):
            if path is not None:
                yield path, write


_SUFFIXES = {"html": (".html", ".htm"), "csv": (".csv",), "parquet": (".parquet",), "markdown": (".md", ".markdown")}


def show_comparison(places: Sequence[Path], asked: Question, outputs: Outputs, *, as_json: bool) -> None:
    """Prints what the runs at or under `places` show, in words or as JSON, and writes the files asked for."""
    outputs.check()
    console = console_of(quiet=False, as_json=as_json)
    with naming_options("reference"):
        analyses = analyse(read_runs(places), asked=asked)
    if as_json:
        print_json(as_plain(analyses))
    else:
        print_analyses(analyses, console)
    if sum(len(analysis.comparison.rows) for analysis in analyses.each) == 1:
        say(console, ["", ALONE])
    for path, write in outputs.writers():
        write(analyses, path)
        console.print(f"{path}: written", markup=False, highlight=False, soft_wrap=True)
