"""The score against what it cost: updates, or training examples where every run made as many updates."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from finetune.evaluation.rows import Row, in_words
from finetune.report import svg
from finetune.report.axes import Axis, padded, shared
from finetune.report.figure import Figure
from finetune.report.plot import Plot, stroke
from finetune.report.view import View

EXAMPLES = "data.examples.train"
FOLLOWS = ("training.", "evaluation.", "checkpoints.")

Budget = Callable[[Row], float]


def draw_budgets(view: View) -> Figure:
    """Returns the score by budget, in a panel per context that is left when the budget is taken out."""
    title = f"Budgets: {view.judged}"
    of, what = _updates, "updates made"
    if len(set(map(_updates, view.rows))) == 1:
        of, what = _examples, "training examples"
    if len(set(map(of, view.rows))) == 1:
        absent = (
            f"Every row had one budget, {_updates(view.rows[0]):,.0f} updates, so scores can't be set against budgets."
        )
        return Figure("budgets", title, absent=absent)
    panels = _panels(view, of)
    scores = shared([padded([score for row in rows for score in _scores(view, row)]) for rows in panels.values()])
    span = padded(map(of, view.rows), log=True)
    ticks = tuple(sorted(set(map(of, view.rows))))
    return Figure(
        "budgets",
        title,
        "A mark per run, and the line through the means of a schedule at each budget.",
        tuple(
            Plot(head, span, y, what, view.judged, _in_words(view, rows, of, what), log_x=True, x_ticks=ticks).panel(
                view.legend, functools.partial(_draw, view, rows, of)
            )
            for (head, rows), y in zip(panels.items(), scores, strict=True)
        ),
    )


def _updates(row: Row) -> float:
    return float(row.records[0].schedule.total_steps)


def _examples(row: Row) -> float:
    value: Any = row.others.get(EXAMPLES)
    return (
        float(value)
        if isinstance(value, int) and 0 < value < 2**53
        else float(row.records[0].identity.data["train"].count)
    )


def _scores(view: View, row: Row) -> tuple[float, ...]:
    return row.scores(view.analysis.comparison.split)


def _panels(view: View, of: Budget) -> dict[str, list[Row]]:
    """Returns the rows by what is left of their contexts without the keys that say the budget again."""
    keys = {key for row in view.rows for key in row.telling}
    said_again = {key for key in keys if key == "training.duration" or (of is _examples and key == EXAMPLES)}
    said_again |= {key for key in keys if key.startswith(FOLLOWS) and _follows(view.rows, key, of)}
    panels: dict[str, list[Row]] = {}
    for row in view.rows:
        rest = {key: value for key, value in row.telling.items() if key not in said_again}
        panels.setdefault(in_words(rest), []).append(row)
    return panels


def _follows(rows: Sequence[Row], key: str, of: Budget) -> bool:
    values: dict[float, set[str]] = {}
    for row in rows:
        values.setdefault(of(row), set()).add(str(row.telling.get(key)))
    return all(len(found) == 1 for found in values.values())


def _curves(view: View, rows: Sequence[Row], of: Budget) -> Mapping[str, dict[float, list[float]]]:
    """Returns the scores by schedule and budget, ascending."""
    curves: dict[str, dict[float, list[float]]] = {}
    for row in sorted(rows, key=of):
        if scores := _scores(view, row):
            # Where all rows have one schedule, each would be a curve of its own.
            key = next(view.key(other) for other in rows if other.label == row.label)
            curves.setdefault(key, {}).setdefault(of(row), []).extend(scores)
    return curves


def _draw(view: View, rows: Sequence[Row], of: Budget, x: Axis, y: Axis) -> Markup:
    legend, parts = view.legend, []
    for key, curve in _curves(view, rows, of).items():
        places = [(x.place(budget), y.place(statistics.fmean(scores))) for budget, scores in curve.items()]
        marks = [
            svg.mark(legend.shape(key), x.place(budget), y.place(score), fill=legend.colour(key), fill_opacity=0.6)
            for budget, scores in curve.items()
            for score in scores
        ]
        parts.append(legend.group([key], stroke(legend, key, [places]), *marks))
    return Markup().join(reversed(parts))


def _in_words(view: View, rows: Sequence[Row], of: Budget, what: str) -> str:
    each = (
        f"{key} "
        + ", ".join(f"{statistics.fmean(scores):{view.form}} at {budget:,.0f}" for budget, scores in curve.items())
        for key, curve in _curves(view, rows, of).items()
    )
    return f"Mean {view.judged} by {what}: {'; '.join(each)}."
