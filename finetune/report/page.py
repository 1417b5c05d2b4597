"""The report: one page that holds all it needs, and opens anywhere without a network.

What runs are called, and whatever else their records hold, is text of strangers. All of it goes through the escaping
of the template or of `svg`; none of it ever stands in the script; and the page forbids the browser to run any other
script, or to load anything.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from finetune.evaluation.analysis import Analyses
from finetune.evaluation.record import write_atomically
from finetune.figures.palette import COLOURS, COLOURS_ON_DARK
from finetune.report import svg
from finetune.report.figure import Figure
from finetune.report.legend import PAGE, Legend
from finetune.report.pictures import figures_of
from finetune.report.provenance import Facts, facts, recipe, settings
from finetune.report.tables import Table, across_contexts, differences, measures
from finetune.report.view import View, keys_of
from finetune.untrusted import visible

MOST_LINES = 45


@dataclass(frozen=True)
class Section:
    """All that the page shows of one analysis. `conclusions`: a context, which may be empty, and its sentences."""

    title: str
    asked: tuple[str, ...]
    conclusions: tuple[tuple[str, tuple[str, ...]], ...]
    cautions: tuple[str, ...]
    figures: dict[str, Figure]
    differences: Table
    measures: Table
    settings: Table
    facts: Facts
    recipe: str


def write_report(analyses: Analyses, path: Path) -> None:
    """Writes `analyses` as one page to `path`, whole or not at all.

    Raises RecordError where a history can't be read, or the place can't be written.
    """
    content = render(analyses)
    write_atomically(path, lambda temporary: temporary.write_text(content, encoding="utf-8"))


def render(analyses: Analyses) -> str:
    """Returns the page as text."""
    environment = Environment(
        loader=PackageLoader("finetune.report", "."),
        autoescape=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    legend = Legend(keys_of(analyses.each), PAGE)
    script = _read(environment, "page.js")
    names = list(dict.fromkeys(analysis.comparison.name for analysis in analyses.each))
    return environment.get_template("page.html.j2").render(
        title=", ".join(names),
        chips=[(number, name, _swatch(legend, name)) for number, name in enumerate(legend.names)],
        sections=[_section(View(analysis, legend)) for analysis in analyses.each],
        across=across_contexts(analyses, legend),
        colours=list(zip(COLOURS, COLOURS_ON_DARK, strict=True)),
        most_lines=MOST_LINES,
        style=_read(environment, "page.css"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _read(environment: Environment, name: str) -> Markup:
    """Returns a file of this package, which is part of the page as it stands."""
    assert environment.loader is not None  # noqa: S101 - it is given above
    return Markup(environment.loader.get_source(environment, name)[0])  # noqa: S704 - it holds no text of a run


def _swatch(legend: Legend, name: str) -> Markup:
    return svg.drawing(26, 16, legend.swatch(name), aria_hidden="true")


def _section(view: View) -> Section:
    comparison = view.analysis.comparison
    return Section(
        title=f"{comparison.name}: {view.judged}",
        asked=tuple(_asked(view)),
        conclusions=tuple(_conclusions(view)),
        cautions=view.analysis.cautions,
        figures={figure.name: figure for figure in figures_of(view)},
        differences=differences(view),
        measures=measures(view),
        settings=settings(view),
        facts=facts(view),
        recipe=recipe(view),
    )


def _conclusions(view: View) -> Iterator[tuple[str, tuple[str, ...]]]:
    for finding in view.analysis.findings:
        head = f"{finding.context}: "
        yield finding.context, tuple(sentence.removeprefix(head) for sentence in finding.sentences)
    if not view.analysis.findings:
        yield "", ("there are no two rows that may be set against each other, so nothing is concluded.",)


def _asked(view: View) -> Iterator[str]:
    """Yields what was asked, and of how much."""
    comparison, question = view.analysis.comparison, view.analysis.question
    yield (
        f"Each schedule is set against {question.reference}, seed by seed."
        if question.reference
        else "Every two schedules are set against each other, seed by seed."
    )
    yield (
        f"A difference below {question.equivalence:g} was declared too small to matter."
        if question.equivalence
        else "No difference was declared too small to matter, so none can be shown to be equivalent."
    )
    if not view.direction.greater_is_better:
        yield f"Less {comparison.metric} is better."
    rows = view.rows
    counts = sorted({len(row.seeds) for row in rows})
    seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    contexts = f" in {len(comparison.contexts)} contexts" if len(comparison.contexts) > 1 else ""
    yield (
        f"{len(rows)} row{'s' * (len(rows) > 1)}{contexts}, {seeds} seed{'s' * (seeds != '1')} each, judged on "
        f"{comparison.count:,} {comparison.split} examples."
    )
    lost, total = sum(row.diverged for row in rows), sum(len(row.records) for row in rows)
    yield f"{lost} of {total:,} runs diverged." if lost else f"None of the {total:,} runs diverged."
