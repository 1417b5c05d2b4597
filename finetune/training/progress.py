"""What a run shows while it goes: the plan, the progress, the result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from finetune.errors import counted
from finetune.evaluation.forms import form_of, written
from finetune.training.layers import HEAD
from finetune.untrusted import presentable

if TYPE_CHECKING:
    from finetune.evaluation.record import Beside, RunRecord, Score

PLAIN_LINES = 10
NARROW = 72
"""In a terminal of fewer columns than these the figures of a run need the room of the bar and the words."""


def say(console: Console, text: str = "") -> None:
    """Prints one line of plain text, neither wrapped nor coloured by its content, which is made presentable."""
    console.print(presentable(text), markup=False, emoji=False, highlight=False, soft_wrap=True)


def say_table(console: Console, rows: Iterable[tuple[str, str]]) -> None:
    """Prints name and text of each row in two columns."""
    rows = list(rows)
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        say(console, f"  {name:<{width}}  {text}")


def show_results(record: RunRecord, console: Console) -> None:
    """Prints what came of a run."""
    lost = record.non_finite
    if lost.losses or lost.gradients:
        losses = f"{lost.losses:,} loss{'' if lost.losses == 1 else 'es'}"
        lost_of_both = f"{losses} and {counted(lost.gradients, 'gradient')} weren't finite"
        say(console, f"  {lost_of_both}, {counted(lost.skipped, 'update')} skipped")
    if record.results is None:
        say(console, f"  diverged: not finite from update {record.diverged_at_step} on; lower the peak rate")
        return
    whose = "" if record.results.weights == "plain" else f", {record.results.weights} weights"
    kept = f"the {record.results.kept} model, of update {record.results.kept_step}{whose}"
    rows = []
    for split, result in record.results.splits.items():
        scores = ", ".join(f"{name} {_with_error(score)}" for name, score in result.metrics.items())
        rows.append((split, f"{scores} (value ± standard error over {counted(result.count, 'example')})"))
    timing = record.timing
    rows.append(("kept", kept))
    rows += [(name, _beside(each)) for name, each in (record.results.beside or {}).items()]
    if record.stopped_early is not None:
        rows.append(("stopped early", f"{record.stopped_early}; the schedule was cut short"))
    rows.append(
        (
            "time",
            f"{timing.train_seconds:.1f} s of training at {timing.samples_per_second:.0f} samples/s, "
            f"{timing.total_seconds:.1f} s in all",
        )
    )
    say_table(console, rows)


def _beside(other: Beside) -> str:
    scores = (
        f"{split} {name} {_score(score.value)}"
        for split, result in other.splits.items()
        for name, score in result.metrics.items()
    )
    return f"{', '.join(scores)}, after update {other.last.step}; not kept"


def bar_up_to(width: int) -> BarColumn:
    """Returns a bar that leaves to other columns what they need, and is `width` wide at most."""
    return BarColumn(bar_width=None, table_column=Column(max_width=width))


class RunProgress(TrainerCallback):
    """A bar with the rate, the loss and the time left on a terminal; elsewhere about ten lines a run.

    Evaluations are a line of their own in both.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            *([TextColumn("  {task.description}"), bar_up_to(30)] if console.width >= NARROW else []),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(compact=True),
            *([TextColumn("left")] if console.width >= NARROW else []),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._total = 0
        self._shown = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._total, self._shown = state.max_steps, state.global_step
        self._task = self._bar.add_task("updates", total=self._total, completed=self._shown, figures="")
        self._bar.start()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._bar.stop()

    def stop(self) -> None:
        """Clears the bar, also after an error."""
        self._bar.stop()

    def show(self, row: dict[str, Any]) -> None:
        """Shows one row of the history."""
        if "evaluation" in row:
            self._show_evaluation(row)
            return
        figures = f"{_rates(row['rates'])}  loss {_number(row['loss'])}"
        self._bar.update(self._task, completed=row["step"], figures=figures)
        due = row["step"] - self._shown >= self._total / PLAIN_LINES or row["step"] == self._total
        if not self._console.is_terminal and due:
            self._shown = row["step"]
            say(self._console, f"  {self._position(row)}  {figures}  {duration(self._seconds_left(row))} left")

    def _show_evaluation(self, row: dict[str, Any]) -> None:
        for weights, values in {"": row["evaluation"], **row.get("beside", {})}.items():
            scores = "  ".join(f"{name} {_score(value)}" for name, value in values.items())
            whose = f" of {weights} weights" if weights else ""
            say(self._console, f"  {self._position(row)}  validation{whose}: {scores}")

    def _position(self, row: dict[str, Any]) -> str:
        return f"{row['step']:>{len(str(self._total))}}/{self._total}  epoch {row['epoch']:.2f}"

    def _seconds_left(self, row: dict[str, Any]) -> float:
        step, seconds = int(row["step"]), float(row["seconds"])
        return seconds / max(step, 1) * (self._total - step)


def _rates(rates: Mapping[str, float]) -> str:
    """Returns the highest rate; where the head has its own, that and the least and the greatest of all else trained."""
    head = max((rate for name, rate in rates.items() if name.startswith(HEAD)), default=None)
    if head is None:
        return f"rate {max(rates.values()):.2e}"
    body = [rate for name, rate in rates.items() if not name.startswith(HEAD) and rate > 0]
    return f"rate {head:.2e} head" + (f", {min(body):.2e}–{max(body):.2e} body" if body else "")


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4f}"


def _score(value: float | None) -> str:
    return "not finite" if value is None else written(value)


def _with_error(score: Score) -> str:
    if score.value is None or score.standard_error is None:
        return _score(score.value)
    return f"{written(score.value)} ± {score.standard_error:{form_of(score.value)}}"


def duration(seconds: float) -> str:
    """Returns seconds as minutes:seconds, or hours:minutes:seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
