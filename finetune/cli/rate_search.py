"""What `finetune lr-find` leaves: a plot on the terminal, and a picture or the numbers in a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from finetune.errors import SettingError
from finetune.evaluation.record import write_atomically
from finetune.figures import FORMATS, Curve, check_suffix, draw, print_curves, save

if TYPE_CHECKING:
    from finetune.training import RateSearch

NUMBERS = ".json"
CEILING = 1.5
"""What lies above so many times the greatest loss before the climb is cut off: the blow-up would flatten all else."""


def check_output(output: Path | None) -> None:
    """Raises SettingError for a file that is neither a picture nor numbers."""
    if output is not None and output.suffix != NUMBERS:
        try:
            check_suffix(output)
        except SettingError as error:
            raise SettingError("--output", f"{error.problem}; for the numbers, {NUMBERS}") from error


def show_search(search: RateSearch, console: Console, output: Path | None) -> None:
    """Draws the smoothed losses on the terminal, and writes `output`."""
    curves = [_curve(search, number) for number in range(len(search.curves))]
    print_curves(curves, console, x_title="rate", y_title="smoothed loss", log_x=True)
    if output is None:
        return
    if output.suffix in FORMATS:
        found = {"steepest": search.suggestion, "a tenth of the least": search.tenth_of_least}
        marks = {f"{name} {spread.value:.1e}": spread.value for name, spread in found.items() if spread is not None}
        title = f"Rate search over {search.updates} updates, {len(curves)} seeds"
        save(draw(curves, title=title, x_title="rate", y_title="smoothed loss", log_x=True, marks=marks), output)
    else:
        text = json.dumps(search.to_dict(), indent=2, allow_nan=False) + "\n"
        write_atomically(output, lambda path: path.write_text(text, encoding="utf-8"))
    console.print(f"{output}: written", markup=False, highlight=False)


def _curve(search: RateSearch, number: int) -> Curve:
    curve = search.curves[number]
    ceiling = CEILING * max(curve.smoothed_losses[: max(1, search.updates // 4)])
    losses = [loss if loss <= ceiling else float("nan") for loss in curve.smoothed_losses]
    return Curve(f"seed {curve.seed}", curve.rates, losses)
