"""What the rows of a comparison do not share, or can't show, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from finetune.evaluation.direction import Direction
from finetune.evaluation.record import RunRecord
from finetune.evaluation.rows import Row, by_context

FEWEST_SEEDS = 5


def cautions_of(rows: Sequence[Row], split: str, direction: Direction) -> Iterator[str]:
    """Yields what scores on `split`, of which `direction` is the better, can't show of `rows`, or they don't share."""
    yield from _of_seeds(_set_against_each_other(rows))
    unstudied = _unstudied(rows)
    if unstudied:
        yield (
            f"The rows also differ in {', '.join(unstudied)}, which no study of theirs varies: schedules are set "
            "against each other only where it is equal."
        )
    for what, values in _unshared(rows):
        yield f"The rows don't share {what}: {', '.join(sorted(values))}."
    cooled = [row.name for row in rows if any(record.schedule.cooldown for record in row.records)]
    if cooled:
        yield f"{', '.join(cooled)}: cooled down on request, and so not the schedule alone."
    continued = [
        row.name for row in rows if any(record.continued and record.continued.changed for record in row.records)
    ]
    if continued:
        yield f"{', '.join(continued)}: gone on from a run under other settings, and so not the schedule alone."
    for row in rows:
        early = [f"{record.stopped_early.step:,}" for record in row.records if record.stopped_early]
        if early:
            planned = ", ".join(sorted({f"{r.stopped_early.planned:,}" for r in row.records if r.stopped_early}))
            yield (
                f"{row.name}: {len(early)} of its {len(row.runs)} runs stopped early, after update {', '.join(early)} "
                f"of {planned}: its schedule was cut short, and isn't seen here in whole."
            )
    for row in rows:
        lost = [record.non_finite for record in row.records if record.results]
        if any(each.losses or each.gradients for each in lost):
            yield (
                f"{row.name}: {sum(max(each.losses, each.gradients) for each in lost)} updates had a loss or gradient "
                f"that wasn't finite, and {sum(each.skipped for each in lost)} of them were skipped."
            )
    if split == "validation":
        yield f"There is no test split: scores are of the split that chose the model, and so {direction.flattering}."
    for row in rows:
        unscored = sum(record.results is not None and not record.has_scores for record in row.records)
        if unscored:
            yield f"{row.name}: {unscored} of its {len(row.runs)} runs have no finite score, and count as diverged."
        if row.diverged:
            yield (
                f"{row.name}: {row.diverged} of its {len(row.runs)} runs diverged; its scores are of the others only, "
                f"and so {direction.flattering} for a schedule that can diverge."
            )


def _set_against_each_other(rows: Sequence[Row]) -> list[list[Row]]:
    """Returns the groups of rows that are compared: those of a context, or all where there is but one schedule."""
    if len({row.label for row in rows}) == 1:
        return [[*rows]]
    return [*by_context(rows).values()]


def _of_seeds(groups: Sequence[Sequence[Row]]) -> Iterator[str]:
    several = [group for group in groups if len(group) > 1]
    if any(len({row.seeds for row in group}) > 1 for group in several):
        yield (
            "The rows have different seeds: only those that two rows share are paired, and the rows' means are of "
            "others too, so that they also differ by the seeds."
        )
    fewest = min((len(row.finished) for group in several for row in group if row.finished), default=FEWEST_SEEDS)
    if fewest < FEWEST_SEEDS:
        fresh = 1 + max(seed for group in several for row in group for seed in row.seeds)
        seeds = "one seed" if fewest == 1 else f"{fewest} seeds"
        yield (
            f"With {seeds} for a row, this can't say which schedule is better: "
            f"a difference may come from the seed alone. Run more: training.seed={fresh}, {fresh + 1}, …"
        )


def _unstudied(rows: Sequence[Row]) -> list[str]:
    """Returns the keys in which rows of different schedules differ although their studies don't vary or choose them."""
    parts = [record.study for row in rows for record in row.records]
    studied = {key for part in parts if part for key in (*part.keys, *part.tuned)} if all(parts) else set()
    if len({row.label for row in rows}) == 1:
        return []
    return [key for key in rows[0].others if not any(key == one or key.startswith(f"{one}.") for one in studied)]


def _unshared(rows: Sequence[Row]) -> Iterator[tuple[str, set[str]]]:
    records = [record for row in rows for record in row.records]
    paired: dict[tuple[str, int], list[RunRecord]] = {}
    for row in rows:
        for record in row.records:
            paired.setdefault((row.context, record.identity.seed), []).append(record)
    if any(len({record.identity.model.initial_weights for record in same}) > 1 for same in paired.values()):
        yield "the initial weights at equal seeds", {record.identity.model.source for record in records}
    if any(len({record.identity.batches for record in same}) > 1 for same in paired.values()):
        yield (
            "the order of the data at equal seeds",
            {f"batches of {r.recipe['training']['batch_size']}" for r in records},
        )
    for what, values in (
        ("the device", {f"{record.environment.hardware}" for record in records}),
        ("the number of processes", {f"{record.environment.processes}" for record in records}),
        ("the precision", {record.environment.precision for record in records}),
        ("torch's version", {record.environment.versions.get("torch", "unknown") for record in records}),
    ):
        if len(values) > 1:
            yield what, values
