"""All that is concluded from recorded runs: what the terminal prints, and what the report and the exports hold."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from finetune.errors import SettingError, counted, did_you_mean
from finetune.evaluation.across import AcrossContexts, across_contexts
from finetune.evaluation.claims import Measured, PeakPoint, measure, peak_points
from finetune.evaluation.comparison import Comparison, compare
from finetune.evaluation.contrasts import Contrast, contrasts, fewest_seeds, is_of
from finetune.evaluation.rows import Row
from finetune.evaluation.runs import RecordedRun
from finetune.evaluation.statistics import indistinguishable


@dataclass(frozen=True)
class Question:
    """What is asked of a comparison. Each is what its study declared, unless given.

    `reference`: the schedule, by its label or its name, that the others are set against; None: each against each.
    `equivalence`: the least difference that matters, in units of the metric. `target`: the validation score that
    convergence is timed to.
    """

    reference: str | None = None
    equivalence: float | None = None
    target: float | None = None

    def __post_init__(self) -> None:
        for name in ("equivalence", "target"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise SettingError(name, f"{value:g} must be above 0, in units of the metric")


@dataclass(frozen=True)
class Finding:
    """What is found within one context, or between contexts that differ in one key.

    `names`: of the rows set against each other, best mean first. `groups`: the largest groups of them none of which are
    shown to differ by what matters; empty with a reference, as then not every two are tested. `sentences`: the
    conclusion in words.
    """

    context: str
    names: tuple[str, ...]
    contrasts: tuple[Contrast, ...]
    groups: tuple[tuple[str, ...], ...]
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Analysis:
    """A comparison with all that was asked of it. `measures`: row ▶ key of MEASURES ▶ value; `tried`: row ▶ points."""

    comparison: Comparison
    question: Question
    findings: tuple[Finding, ...]
    measures: dict[str, dict[str, Measured]]
    tried: dict[str, list[PeakPoint]]

    @property
    def contrasts(self) -> tuple[Contrast, ...]:
        """The contrasts of all findings."""
        return tuple(contrast for finding in self.findings for contrast in finding.contrasts)

    @property
    def conclusion(self) -> tuple[str, ...]:
        """The conclusion in words, context by context."""
        return tuple(sentence for finding in self.findings for sentence in finding.sentences)

    @property
    def cautions(self) -> tuple[str, ...]:
        """What the rows do not share or can't show, and how far the choice of their peak rates can be trusted."""
        return (*self.comparison.cautions, *_cautions_of_tuning(self.comparison, self.tried))


@dataclass(frozen=True)
class Analyses:
    """One analysis per data set and metric, and the schedules that all their contexts share, over all of them."""

    each: tuple[Analysis, ...]
    across: tuple[AcrossContexts, ...]


def analyse(runs: Iterable[RecordedRun], *, asked: Question | None = None) -> Analyses:
    """Returns what `runs` show. What `asked` leaves open is taken from the studies that the runs were made for.

    Raises RecordError where a history or predictions can't be read or contradict their record, and SettingError for a
    reference that is no schedule of the runs.
    """
    comparisons = compare(runs)
    asked = asked or Question()
    _check_reference(asked.reference, comparisons)
    return Analyses(
        tuple(_analyse(comparison, _question(comparison, asked)) for comparison in comparisons),
        tuple(across_contexts(comparisons)),
    )


def _check_reference(reference: str | None, comparisons: Sequence[Comparison]) -> None:
    rows = [row for comparison in comparisons for row in comparison.rows]
    if reference is not None and not any(is_of(row, reference) for row in rows):
        labels = sorted({row.label for row in rows})
        raise SettingError(
            "reference",
            f"{reference} is none of the schedules, {', '.join(labels)}{did_you_mean(reference, labels)}",
        )


def _cautions_of_tuning(comparison: Comparison, tried: Mapping[str, Sequence[PeakPoint]]) -> Iterator[str]:
    """Yields where a better peak rate may lie beyond those tried, and where one seed alone chose it."""
    tuned = {
        row.name: tried[row.name]
        for row in comparison.rows
        if len({point.peak for point in tried[row.name]}) > 1 and row.records[0].study and row.records[0].study.tuned
    }
    at_edge = [name for name, points in tuned.items() if any(point.chosen and point.at_edge for point in points)]
    if at_edge:
        yield f"Of the peak rates tried, the one at the edge was best; a better may lie beyond: {'; '.join(at_edge)}."
    if any(len({point.seed for point in points}) == 1 for points in tuned.values()):
        yield "Peak rates were chosen by one run each, so that the choice may be luck: give tuning several seeds."


def _question(comparison: Comparison, asked: Question) -> Question:
    """Returns `asked`, completed by what all studies declared alike; a reference only where it is among the runs."""
    parts = [record.study for row in comparison.rows for record in row.records]

    def declared(name: str) -> object:
        given = getattr(asked, name)
        if given is not None:
            return given
        values = {getattr(part, name) if part else None for part in parts}
        value = values.pop() if len(values) == 1 else None
        there = name != "reference" or any(is_of(row, value) for row in comparison.rows)
        return value if there else None

    return Question(**{name: declared(name) for name in ("reference", "equivalence", "target")})  # type: ignore[arg-type]


def _analyse(comparison: Comparison, question: Question) -> Analysis:
    found = contrasts(comparison, reference=question.reference, equivalence=question.equivalence)
    families: dict[str, list[Contrast]] = {}
    for contrast in found:
        families.setdefault(contrast.context, []).append(contrast)
    return Analysis(
        comparison=comparison,
        question=question,
        findings=tuple(_finding(comparison, question, context, family) for context, family in families.items()),
        measures=measure(comparison, target=question.target),
        tried={row.name: peak_points(row, comparison) for row in comparison.rows},
    )


def _finding(comparison: Comparison, question: Question, context: str, family: Sequence[Contrast]) -> Finding:
    involved = {name for contrast in family for name in (contrast.first, contrast.second)}
    rows = [row for row in comparison.rows if row.name in involved]
    apart = [(contrast.first, contrast.second) for contrast in family if contrast.verdict == "different"]
    names = tuple(row.name for row in rows)
    groups = () if question.reference is not None else tuple(indistinguishable(names, apart))
    several = len(comparison.contexts) > 1
    sentences = _sentences(rows, family, groups, comparison, question)
    head = f"{context}: " if several and context else ""
    return Finding(context, names, tuple(family), groups, tuple(f"{head}{sentence}" for sentence in sentences))


def _sentences(
    rows: Sequence[Row],
    family: Sequence[Contrast],
    groups: Sequence[tuple[str, ...]],
    comparison: Comparison,
    question: Question,
) -> Iterator[str]:
    labels = {row.name: _short(row, rows) for row in rows}
    seeds = min(len(contrast.seeds) for contrast in family)
    tested = [contrast for contrast in family if contrast.p_value is not None]
    if not tested:
        yield from _untested(rows, family, labels, comparison)
        return
    if question.reference is None:
        yield from _best(groups, labels, comparison, seeds)
    else:
        for reference in dict.fromkeys(contrast.second for contrast in tested):
            against = [contrast for contrast in tested if contrast.second == reference]
            yield from _against_reference(against, labels, comparison, seeds)
    yield from _equivalents(tested, labels, question)
    yield from _undecided(tested, labels)
    fewest = fewest_seeds(len(tested))
    if seeds < fewest:
        yield (
            f"{seeds} seeds are too few for the exact test to reach 5% in {counted(len(tested), 'difference')} at "
            f"once, however large: that takes {fewest}."
        )


def _untested(
    rows: Sequence[Row], family: Sequence[Contrast], labels: dict[str, str], comparison: Comparison
) -> Iterator[str]:
    """Yields what can be said of too few seeds: a description, and no conclusion."""
    what, form = f"{comparison.direction.superlative} mean {comparison.judged}", comparison.form
    first, second = rows[0], rows[1]
    best, next_best = (f"{statistics.fmean(row.scores(comparison.split)):{form}}" for row in (first, second))
    if best == next_best:
        seen = f"{labels[first.name]} and {labels[second.name]} have the {what}, {best} each"
    else:
        seen = f"{labels[first.name]} has the {what}, {best}, and {labels[second.name]} comes next with {next_best}"
    seeds = min(len(contrast.seeds) for contrast in family)
    yield (
        f"{seen}; {counted(seeds, 'seed')} can't tell that from luck: a test at 5% of "
        f"{counted(len(family), 'difference')} takes {fewest_seeds(len(family))} seeds."
    )


def _best(
    groups: Sequence[tuple[str, ...]], labels: dict[str, str], comparison: Comparison, seeds: int
) -> Iterator[str]:
    top, what = groups[0], comparison.judged
    if len(top) == 1:
        yield (
            f"{labels[top[0]]} has the {comparison.direction.superlative} {what}, and is shown to differ from every "
            f"other ({seeds} seeds)."
        )
    elif len(groups) == 1:
        yield f"none is shown to be better in {what}: {_listed(top, labels)} are indistinguishable ({seeds} seeds)."
    else:
        yield f"none is shown to be best in {what}: {_listed(top, labels)} lead, indistinguishable ({seeds} seeds)."


def _against_reference(
    tested: Sequence[Contrast], labels: dict[str, str], comparison: Comparison, seeds: int
) -> Iterator[str]:
    reference, what = labels[tested[0].second], comparison.judged
    shown = [contrast for contrast in tested if contrast.is_shown]
    for better, word in ((True, "better"), (False, "worse")):
        ours = [contrast for contrast in shown if (comparison.direction.merit(contrast.differences_mean) > 0) is better]
        if ours:
            found = ", ".join(
                f"{labels[contrast.first]} ({contrast.differences_mean:+{comparison.form}}{_too_small(contrast)})"
                for contrast in ours
            )
            yield f"shown to be {word} than {reference} in {what} ({seeds} seeds): {found}."
    if not shown:
        yield f"none is shown to differ from {reference} in {what} ({seeds} seeds)."


def _too_small(contrast: Contrast) -> str:
    return ", less than matters" if contrast.is_equivalent else ""


def _equivalents(tested: Sequence[Contrast], labels: dict[str, str], question: Question) -> Iterator[str]:
    alike = [contrast for contrast in tested if contrast.verdict == "equivalent"]
    if not alike:
        return
    pairs = (
        ", ".join(f"{labels[contrast.first]} and {labels[contrast.second]}" for contrast in alike)
        if question.reference is None
        else ", ".join(f"{labels[contrast.first]} to {labels[contrast.second]}" for contrast in alike)
    )
    yield f"shown to be equivalent, within ±{question.equivalence:g}: {pairs}."


def _undecided(tested: Sequence[Contrast], labels: dict[str, str]) -> Iterator[str]:
    still = [contrast for contrast in tested if contrast.verdict == "undecided"]
    if not still:
        return
    pairs = ", ".join(f"{labels[contrast.first]} − {labels[contrast.second]}{_needed(contrast)}" for contrast in still)
    effects = {contrast.effect for contrast in still if contrast.effect is not None}
    sought = f"a difference of {effects.pop():.2g}" if len(effects) == 1 else "the difference seen"
    yield f"undecided, with the number of seeds that would find {sought} with power 0.8: {pairs}."


def _needed(contrast: Contrast) -> str:
    if contrast.effect is None:
        return " (none seen)"
    return f" ({contrast.seeds_needed:,})" if contrast.seeds_needed else " (over 10,000)"


def _short(row: Row, rows: Sequence[Row]) -> str:
    """Returns the schedule alone where it tells the rows apart."""
    return row.label if len({each.label for each in rows}) == len(rows) else row.name


def _listed(names: Sequence[str], labels: dict[str, str]) -> str:
    *most, last = [labels[name] for name in names]
    return f"{', '.join(most)} and {last}" if most else last
