"""`finetune evaluate`: what a run's model scores on labelled data of later, in words, in tables or as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rich.console import Console

from finetune.cli.naming import naming_options
from finetune.cli.speech import print_json
from finetune.errors import counted, listed
from finetune.evaluation.forms import form_of, written
from finetune.evaluation.record import Score
from finetune.evaluation.tables import TextTable
from finetune.evaluation.terminal import print_table, say
from finetune.inference.evaluating import Difference, Interval, LaterScores, evaluate, interval_of, metrics_for
from finetune.inference.finished import FinishedRun
from finetune.inference.given import given_rows
from finetune.inference.predictor import Predictor
from finetune.metrics import HUB, METRICS

UNKNOWN = "–"
MOST_CLASSES = 50


def evaluate_files(
    run: FinishedRun,
    files: Sequence[str],
    load: Callable[[], Predictor],
    *,
    piped_format: str,
    metrics: str | None,
    as_json: bool,
    trust_remote_code: bool,
) -> None:
    """Prints what the run's model scores on `files`; `metrics`: names with commas between them, None for its own."""
    names = None if metrics is None else [name.strip() for name in metrics.split(",")]
    with naming_options("metrics"):
        chosen = metrics_for(run, names, trust_remote_code=trust_remote_code)
    with given_rows(files, piped_format=piped_format, naming_files=run.task.naming_files) as rows:
        found = evaluate(run, rows, load, metrics=chosen)
    if as_json:
        print_json({"run": str(run.path), "files": list(files), **found.to_dict()})
        return
    console = Console()
    say(console, [f"{run.path} on {listed(files, most=4)}: {counted(found.scores.count, 'example')}"])
    say(console, ["", *_sentences(found)])
    print_table(_of_metrics(found), console)
    if found.classes:
        print_table(_of_classes(found), console)


def _sentences(found: LaterScores) -> Iterator[str]:
    if found.caution:
        yield f"caution: {found.caution}"
    for metric in found.scores.metrics:
        difference = found.difference(metric)
        if difference is not None:
            yield f"{metric} {_in_words(metric, difference)}"


def _in_words(metric: str, difference: Difference) -> str:
    if difference.interval is None:
        return "has no standard error to set it against the run's test split by"
    if not difference.is_clear:
        return "can't be told apart from that on the run's own test split"
    way = "higher" if difference.value > 0 else "lower"
    known = None if metric.startswith(HUB) else METRICS[metric].greater_is_better == (difference.value > 0)
    verdict = "" if known is None else ", which is better" if known else ", which is worse"
    size = f"{abs(difference.value):{form_of(difference.value)}}"
    return f"is {way} than on the run's own test split by {size}{verdict}: the data may have changed"


def _of_metrics(found: LaterScores) -> TextTable:
    rows = [(name, *_cells(score, found.difference(name))) for name, score in found.scores.metrics.items()]
    loss = UNKNOWN if found.scores.loss is None else written(found.scores.loss)
    return TextTable(
        "",
        ("metric", "value", "± standard error", "95% interval", "on the run's test", "difference", "its 95% interval"),
        1,
        (*rows, ("loss", loss, *[UNKNOWN] * 5)),
        ("Errors and intervals are over the choice of examples, of this one model: another seed gives another.",),
    )


def _cells(score: Score, difference: Difference | None) -> tuple[str, ...]:
    size = form_of(score.value or 0)
    of_test = UNKNOWN if difference is None else _figure(difference.test.value, size)
    return (
        _figure(score.value, size),
        _figure(score.standard_error, size),
        _bounds(interval_of(score), size),
        of_test,
        UNKNOWN if difference is None else f"{difference.value:+{size}}".replace("-", "−"),
        UNKNOWN if difference is None else _bounds(difference.interval, size),
    )


def _of_classes(found: LaterScores) -> TextTable:
    shown = found.classes[:MOST_CLASSES]
    more = len(found.classes) - len(shown)
    return TextTable(
        "by class",
        ("class", "examples", "precision", "recall", "F1"),
        1,
        tuple(
            (each.name, f"{each.count:,}", *(_figure(value) for value in (each.precision, each.recall, each.f1)))
            for each in shown
        ),
        (f"and {more:,} classes more, which --json has",) if more else (),
    )


def _figure(value: float | None, form: str = ".4f") -> str:
    return UNKNOWN if value is None else f"{value:{form}}".replace("-", "−")


def _bounds(interval: Interval | None, form: str) -> str:
    return UNKNOWN if interval is None else f"[{_figure(interval[0], form)}, {_figure(interval[1], form)}]"
