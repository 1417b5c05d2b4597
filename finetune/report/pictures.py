"""The figures of an analysis: all of them, in the order of the page, and as files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from finetune.evaluation.analysis import Analyses
from finetune.evaluation.record import write_atomically
from finetune.report.budgets import draw_budgets
from finetune.report.figure import Figure, picture
from finetune.report.forest import draw_differences
from finetune.report.learning import draw_learning
from finetune.report.legend import PRINT, Legend
from finetune.report.peaks import draw_peaks
from finetune.report.rates import draw_rates
from finetune.report.scores import draw_scores
from finetune.report.view import View, keys_of

FIGURES = (draw_rates, draw_scores, draw_differences, draw_learning, draw_peaks, draw_budgets)


def figures_of(view: View) -> Iterator[Figure]:
    """Yields the figures of an analysis in the order of the page."""
    for draw in FIGURES:
        yield draw(view)


def write_figures(analyses: Analyses, folder: Path) -> list[Path]:
    """Writes every figure that has something to show as an SVG file into `folder`, and returns the paths.

    They are named after the figure, and where there are several analyses, after the study and the metric too. Raises
    RecordError where a history or the place can't be read or written.
    """
    legend = Legend(keys_of(analyses.each), PRINT)
    paths = []
    for number, analysis in enumerate(analyses.each, start=1):
        comparison = analysis.comparison
        words = re.sub(r"\W+", "-", f"{comparison.name}-{comparison.metric}").strip("-").lower()[:60]
        prefix = f"{number}-{words}-" if len(analyses.each) > 1 else ""
        for figure in figures_of(View(analysis, legend)):
            if figure.panels:
                path = folder / f"{prefix}{figure.name}.svg"
                _write(path, str(picture(figure, legend)))
                paths.append(path)
    return paths


def _write(path: Path, content: str) -> None:
    write_atomically(path, lambda temporary: temporary.write_text(content, encoding="utf-8"))
