"""An analysis as tables of text, which the terminal and Markdown show alike."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from finetune.errors import counted
from finetune.evaluation.across import AcrossContexts
from finetune.evaluation.analysis import Analysis
from finetune.evaluation.claims import Measure, Measured, measures_of
from finetune.evaluation.comparison import Comparison
from finetune.evaluation.contrasts import Contrast
from finetune.evaluation.rows import Row
from finetune.evaluation.statistics import Interval
from finetune.keys import brief

NOTHING = "–"


@dataclass(frozen=True)
class TextTable:
    """Cells under `columns`: words in the first `labels` of them, then figures; `notes` say how to read it."""

    title: str
    columns: tuple[str, ...]
    labels: int
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def tables_of(analysis: Analysis) -> Iterator[TextTable]:
    """Yields the tables of `analysis`: its rows, their differences, and what was measured besides."""
    yield _rows_table(analysis.comparison)
    if any(contrast.interval for contrast in analysis.contrasts):
        yield _differences_table(analysis)
    yield _claims_table(analysis)


def table_across(across: Sequence[AcrossContexts]) -> TextTable | None:
    """Returns the table of the schedules over all contexts; None where there is but one."""
    if not across:
        return None
    varied = list(dict.fromkeys(what for each in across for what in each.spreads))
    form, direction = across[0].form, across[0].direction
    rows = [
        (
            each.schedule,
            str(each.contexts),
            str(each.runs),
            _bounds(each.mean_rank, ".2f"),
            _bounds(each.interquartile_mean, form),
            *(_measured(each.spreads.get(what), form) for what in varied),
        )
        for each in across
    ]
    return TextTable(
        title=f"Over all {across[0].contexts} contexts",
        columns=("schedule", "contexts", "runs", "mean rank", "IQM", *(f"spread over {what}" for what in varied)),
        labels=1,
        rows=tuple(rows),
        notes=(
            "mean rank: 1 is best, ties shared; IQM: the interquartile mean of the scores; both with 95% intervals "
            f"over seeds; spread: {direction.spread} score, seed by seed, mean ± half of its 95% interval.",
        ),
    )


def _told_by(comparison: Comparison) -> list[str]:
    """Returns the headings of what tells the contexts of a comparison apart."""
    return [key.removesuffix(".name") for key in comparison.rows[0].telling]


def _told(row: Row) -> list[str]:
    return [_plain(value) for value in row.telling.values()]


def _rows_table(comparison: Comparison) -> TextTable:
    told_by = _told_by(comparison)
    with_peaks = "optimizer.learning_rate" not in told_by and len({row.peaks for row in comparison.rows}) > 1
    columns = ["schedule", *told_by, *(["peak"] if with_peaks else [])]
    figures = [
        "runs",
        comparison.judged,
        *(["validation"] if comparison.split == "test" else []),
        "update",
        "train s",
        "samples/s",
    ]
    rows = [
        (
            row.label,
            *_told(row),
            *([", ".join(f"{peak:.3g}" for peak in row.peaks)] if with_peaks else []),
            _runs(row),
            *(_figures(comparison, row) if row.finished else [NOTHING] * (len(figures) - 1)),
        )
        for row in comparison.rows
    ]
    return TextTable("", (*columns, *figures), len(columns), tuple(rows), tuple(_row_notes(comparison)))


def _runs(row: Row) -> str:
    return f"{len(row.runs)}, {row.diverged} diverged" if row.diverged else str(len(row.runs))


def _figures(comparison: Comparison, row: Row) -> Iterator[str]:
    yield _score(comparison, row)
    if comparison.split == "test":
        bests = row.best_scores(comparison.metric)
        yield f"{statistics.fmean(bests):{comparison.form}}" if bests else NOTHING
    steps = [record.results.best.step for record in row.finished if record.results]
    yield f"{statistics.median(steps):.0f}"
    yield f"{row.median('train_seconds'):.1f}"
    yield f"{row.median('samples_per_second'):.0f}"


def _score(comparison: Comparison, row: Row) -> str:
    scores, form = row.scores(comparison.split), comparison.form
    if len(scores) == 1:
        error = row.standard_error(comparison.split, comparison.metric)
        return f"{scores[0]:{form}}" + ("" if error is None else f" ± {error:{form}}")
    return f"{statistics.fmean(scores):{form}} [{min(scores):{form}}–{max(scores):{form}}]"


def _row_notes(comparison: Comparison) -> Iterator[str]:
    schedules = dict.fromkeys((row.label, row.schedule) for row in comparison.rows)
    yield from (f"{label}: {settings}" for label, settings in schedules if settings)
    one = any(len(row.finished) == 1 for row in comparison.rows)
    many = any(len(row.finished) > 1 for row in comparison.rows)
    forms = ["value ± standard error over examples" if one else "", "mean [least–greatest] over runs" if many else ""]
    kinds = " or ".join(form for form in forms if form)
    less = "" if comparison.direction.greater_is_better else " (less is better)"
    judged = f"{comparison.judged}{less}: {counted(comparison.count, 'example')}, {kinds}"
    if comparison.split == "validation":
        yield f"{judged}; update: where it was best."
    else:
        yield f"{judged}, read once by each kept model; validation: the best {comparison.metric}, at that update."


def _differences_table(analysis: Analysis) -> TextTable:
    comparison = analysis.comparison
    several = [contrast for contrast in analysis.contrasts if contrast.interval is not None]
    rows_of = {row.name: row for row in comparison.rows}
    pairs = [(rows_of[contrast.first], rows_of[contrast.second]) for contrast in several]
    of_schedules = all(first.telling == second.telling for first, second in pairs)
    tested = [contrast for contrast in several if contrast.p_value is not None]
    with_bootstrap = any(contrast.bootstrap for contrast in several)
    labels = ["difference", *(_told_by(comparison) if of_schedules else [])]
    columns = ["seeds", "mean [95% interval]"]
    columns += ["over examples too"] if with_bootstrap else []
    columns += ["p", "adjusted"] if tested else []
    rows = [
        (
            *(
                [f"{first.label} − {second.label}", *_told(first)]
                if of_schedules
                else [f"{first.name} − {second.name}"]
            ),
            str(len(contrast.seeds)),
            _bounds(contrast.interval, f"+{comparison.form}"),
            *([_interval(contrast.bootstrap, f"+{comparison.form}")] if with_bootstrap else []),
            *([_p(contrast.p_value), _p(contrast.adjusted)] if tested else []),
            contrast.verdict,
        )
        for contrast, (first, second) in zip(several, pairs, strict=True)
    ]
    return TextTable(
        title=f"Differences in {comparison.judged}, paired by seed",
        columns=(*labels, *columns, "verdict"),
        labels=len(labels),
        rows=tuple(rows),
        notes=tuple(_difference_notes(analysis, tested, with_bootstrap=with_bootstrap)),
    )


def _difference_notes(analysis: Analysis, tested: Sequence[Contrast], *, with_bootstrap: bool) -> Iterator[str]:
    if not analysis.comparison.direction.greater_is_better:
        yield "less is better, so a difference below 0 speaks for the first."
    if with_bootstrap:
        yield "over examples too: the 95% bootstrap interval over seeds and test examples at once."
    if not tested:
        return
    yield (
        "p: of the exact sign-flip test; adjusted for the number of differences in a context by Holm's method; "
        "different: adjusted p ≤ 0.05."
    )
    if analysis.question.equivalence:
        yield f"equivalent: shown to be within ±{analysis.question.equivalence:g} (two one-sided t tests, Holm)."


def _claims_table(analysis: Analysis) -> TextTable:
    shown = {
        key: column
        for key, column in measures_of(analysis.comparison).items()
        if key != "score" and any(measures[key].value for measures in analysis.measures.values())
    }
    rows = [
        (
            row.label,
            *_told(row),
            *(_measured(analysis.measures[row.name][key], column.form) for key, column in shown.items()),
        )
        for row in analysis.comparison.rows
    ]
    told_by = _told_by(analysis.comparison)
    notes = [f"{_heading(column)}: {column.meaning}." for column in shown.values()]
    return TextTable(
        title="Measured besides the score: mean ± half of its 95% interval, of the finished runs",
        columns=("schedule", *told_by, *map(_heading, shown.values())),
        labels=1 + len(told_by),
        rows=tuple(rows),
        notes=(*notes, *_claim_notes(analysis, shown)),
    )


def _claim_notes(analysis: Analysis, shown: Mapping[str, Measure]) -> Iterator[str]:
    """Yields each note on figures once, with the measures and the rows that it is of."""
    noted: dict[tuple[str, str], list[str]] = {}
    for key, column in shown.items():
        rows_by_note: dict[str, list[str]] = {}
        for name, measures in analysis.measures.items():
            if measures[key].note:
                rows_by_note.setdefault(measures[key].note, []).append(name)
        for note, names in rows_by_note.items():
            whose = "" if len(names) == len(analysis.measures) else f" ({'; '.join(names)})"
            noted.setdefault((note, whose), []).append(column.title)
    yield from (f"{', '.join(titles)}: {note}{whose}." for (note, whose), titles in noted.items())


def _heading(measure: Measure) -> str:
    return f"{measure.title}, {measure.unit}" if measure.unit else measure.title


def _measured(measured: Measured | None, form: str) -> str:
    if measured is None or measured.value is None:
        return NOTHING
    interval = measured.value
    half = (interval.high - interval.low) / 2
    return f"{interval.estimate:{form}}" + ("" if math.isnan(half) else f" ± {half:{form}}")


def _bounds(interval: Interval | None, form: str) -> str:
    return NOTHING if interval is None else f"{interval.estimate:{form}} {_interval(interval, form)}"


def _interval(interval: Interval | None, form: str) -> str:
    return NOTHING if interval is None else f"[{interval.low:{form}}, {interval.high:{form}}]"


def _p(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3f}"


def _plain(value: object) -> str:
    return NOTHING if value is None else brief(value)
