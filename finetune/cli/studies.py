"""What `finetune study` leaves on the terminal: the peak rates chosen, the failures, and the comparison."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal

from rich.console import Console

from finetune.cli.speech import complain
from finetune.errors import SettingError
from finetune.evaluation.analysis import analyse
from finetune.evaluation.plain import as_plain
from finetune.evaluation.runs import read_runs
from finetune.evaluation.terminal import print_analyses
from finetune.recipe import Share
from finetune.study import Outcome
from finetune.study.peaks import Choice, Scores
from finetune.training import is_main_process
from finetune.training.progress import say, say_table


def number_of_workers(text: str | None) -> int | Literal["auto"] | None:
    """Returns what --workers was given, if it was; raises SettingError for neither a whole number nor auto."""
    if text is None:
        return None
    if text == "auto":
        return "auto"
    try:
        return int(text)
    except ValueError as error:
        raise SettingError("--workers", f'"{text}" is neither a whole number nor auto') from error


def share_of(text: str) -> Share:
    """Returns what --share was given, K/N; raises SettingError where there is no such share."""
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise SettingError("--share", f'"{text}" is not K/N, share K of N, such as 1/4, 2/4, 3/4 and 4/4')
    return Share(int(number), int(of))


def outcome_as_plain(outcome: Outcome) -> dict[str, Any]:
    """Returns what came of a study, in values that JSON has."""
    return {
        "directory": str(outcome.directory),
        "peak_rates": [choice.to_dict() for choice in outcome.choices.values()],
        "failed": [{"run": done.job.label, "role": done.job.role, "problem": done.problem} for done in outcome.failed],
        **(as_plain(analyse(read_runs([outcome.directory]))) if _is_comparable(outcome) else {}),
    }


def _is_comparable(outcome: Outcome) -> bool:
    return any(done.job.part.role == "final" and done.status != "failed" for done in outcome.runs)


def show_outcome(outcome: Outcome, console: Console) -> None:
    """Prints what came of a study; where `console` is silent, what failed alone, on standard error."""
    if console.quiet:
        for done in outcome.failed if is_main_process() else ():
            complain(f"{done.job.label}: {done.problem}")
        return
    if outcome.choices:
        say(console, "Peak rates, chosen on validation:")
        say_table(
            console,
            [
                (
                    choice.setting,
                    f"{choice.peak:.3g}{_edge(choice.is_at_edge)} of {_scores(choice.tried)}{_left_out(choice)}",
                )
                for choice in outcome.choices.values()
            ],
        )
    for done in outcome.failed:
        say(console, f"failed: {done.job.label}: {done.problem}")
    if _is_comparable(outcome):
        say(console)
        print_analyses(analyse(read_runs([outcome.directory])), console)
        say(console, f"\nThe report: finetune compare {outcome.directory} --html report.html")


def _edge(is_at_edge: bool) -> str:  # noqa: FBT001 - a private word
    return " (at the edge: a better one may lie beyond)" if is_at_edge else ""


def _left_out(choice: Choice) -> str:
    """Returns what shorter runs left out, rung by rung."""
    return "".join(
        f"; after {tried.total_steps or '?'} updates without {_scores(_without(tried.scores, longer.scores))}"
        for tried, longer in pairwise(choice.rungs)
    )


def _without(scores: Mapping[float, Scores], left: Mapping[float, Scores]) -> dict[float, Scores]:
    return {peak: each for peak, each in scores.items() if peak not in left}


def _scores(tried: Mapping[float, Scores]) -> str:
    return ", ".join(f"{peak:.3g}: {_mean(scores)}" for peak, scores in tried.items())


def _mean(scores: Scores) -> str:
    there = [score for score in scores.values() if score is not None]
    return f"{statistics.fmean(there):.4f}" if len(there) == len(scores) else "diverged"
