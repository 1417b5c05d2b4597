"""The rates that the runs applied, update by update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from finetune.evaluation.rows import Row
from finetune.figures.curves import Curve, number
from finetune.report.axes import MARGIN, Axis, shared
from finetune.report.figure import Figure, Panel
from finetune.report.plot import Plot, pieces_of, stroke
from finetune.report.view import View

Rates = Mapping[str, Sequence[float]]


def draw_rates(view: View) -> Figure:
    """Returns the rate curves, in a panel per context unless all contexts have the same."""
    panels = {head: _rates(rows, view) for head, rows in view.panels.items()}
    if all(rates == next(iter(panels.values())) for rates in panels.values()):
        panels = {"": next(iter(panels.values()))}
    longest = shared([(0.0, max(1.0, *(len(each) - 1.0 for each in rates.values()))) for rates in panels.values()])
    highest = shared(
        [
            (0.0, (1 + MARGIN) * (max(max(each, default=0.0) for each in rates.values()) or 1.0))
            for rates in panels.values()
        ]
    )
    return Figure(
        "rates",
        "Learning rates",
        "The rate that was applied at each update, read from the records of one run per row, of the parameter group "
        "with the highest peak.",
        tuple(
            _panel(view, head, rates, Plot(head, x, y, "update", "learning rate", _in_words(rates)))
            for (head, rates), x, y in zip(panels.items(), longest, highest, strict=True)
        ),
    )


def _rates(rows: Sequence[Row], view: View) -> Rates:
    """Returns the rates of the longest run of each row, as a run that diverged ends early."""
    rates: dict[str, Sequence[float]] = {}
    for row in rows:
        groups = [max(record.schedule.groups, key=lambda group: group.peak) for record in row.records]
        rates[view.label(row, rows)] = max((group.rates for group in groups), key=len)
    return rates


def _panel(view: View, head: str, rates: Rates, plot: Plot) -> Panel:
    rows = view.panels[head] if head in view.panels else next(iter(view.panels.values()))
    keys = {view.label(row, rows): view.key(row) for row in rows}

    def draw(x: Axis, y: Axis) -> Markup:
        return Markup().join(
            view.legend.group(
                [keys[label]],
                stroke(view.legend, keys[label], pieces_of(Curve(label, range(len(values)), values), x, y)),
            )
            for label, values in reversed(list(rates.items()))
        )

    return plot.panel(view.legend, draw)


def _in_words(rates: Rates) -> str:
    each = (f"{label} {_course(values)}" for label, values in rates.items())
    return f"Rates from the first update to the last: {'; '.join(each)}."


def _course(values: Sequence[float]) -> str:
    if not values:
        return "made no update"
    last = f"{number(values[-1])} after {len(values):,} updates"
    return f"{number(values[0])}, at most {number(max(values))}, at last {last}"
