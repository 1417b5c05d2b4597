"""What `finetune check --devices --memory` says of memory and time, in words and tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from finetune.errors import counted
from finetune.estimates.sizes import check_devices, check_seconds, in_gb, parse_memory

if TYPE_CHECKING:
    from finetune.estimates.memory import MemoryEstimate
    from finetune.estimates.outlook import Asked, Estimate

COLUMNS = ("weights", "gradients", "states", "averages", "gathered", "activations", "peak")
TITLES = ("on each device, GB", "weights", "gradients", "optimizer", "averages", "buckets", "activations", "peak")


def read_asked(devices: int | None, memory: str | None, seconds: float | None) -> Asked | None:
    """Returns what the options ask for, None where they ask for nothing; raises SettingError for what none can be."""
    if devices is None and memory is None and seconds is None:
        return None
    from finetune.estimates.outlook import Asked

    return Asked(
        None if devices is None else check_devices(devices),
        None if memory is None else parse_memory(memory),
        None if seconds is None else check_seconds(seconds),
    )


def of_memory(estimate: Estimate) -> Iterator[tuple[str, str]]:
    """Yields the lines above the table of devices."""
    memory = estimate.memory
    if memory is None:
        return
    if estimate.setting is not None:
        yield "setting", f"{estimate.setting}, which needs most memory"
    usage = memory.usage
    trained = "all trained" if usage.trained == usage.parameters else f"{usage.trained:,} trained"
    yield "model", f"{memory.architecture}, {usage.parameters:,} parameters, {trained}"
    tokens = "" if memory.tokens is None else f" of {memory.tokens:,} tokens"
    times = "" if memory.accumulation == 1 else f", {memory.accumulation} times an update"
    yield "at a time", f"{counted(memory.examples, 'example')}{tokens} on each device{times}"
    yield "precision", f"products in {memory.precision}, weights kept in fp32"


def table_rows(memory: MemoryEstimate) -> tuple[list[str], list[list[str]]]:
    """Returns titles and rows of the table, a row for each way of spreading a run; columns of nothing are left out."""
    shown = [(title, name) for title, name in zip(TITLES[1:], COLUMNS, strict=True) if _any(memory, name)]
    titles = [TITLES[0], *(title for title, _ in shown), *(["fits"] if memory.memory is not None else [])]
    rows = []
    for share in memory.shares:
        cells = [in_gb(getattr(share, name)) for _, name in shown]
        fits = memory.fits(share)
        rows.append([share.strategy, *cells, *([] if fits is None else ["yes" if fits else "no"])])
    return titles, rows


def _any(memory: MemoryEstimate, name: str) -> bool:
    return any(getattr(share, name) for share in memory.shares)


def of_fit(memory: MemoryEstimate) -> Iterator[tuple[str, str]]:
    """Yields what fits and what would."""
    from finetune.estimates.sharding import BY_FORMULA, USABLE

    if memory.memory is None:
        return
    devices = counted(memory.devices, "device")
    yield "memory", f"{in_gb(memory.memory)} GB on each of {devices}, of which {USABLE:.0%} is counted on"
    if any(share.strategy in BY_FORMULA for share in memory.shares):
        yield "zero1, zero2", "to compare with: DeepSpeed's ways, which runs refuse"
    for strategy, remedy in memory.largest.items():
        if remedy is None:
            yield strategy, "doesn't fit, with one example at a time neither"
            continue
        asks = f"training.micro_batch_size: {remedy.examples}, {remedy.accumulation} micro-batches an update"
        own = remedy.examples >= memory.examples
        yield strategy, "fits as it is" if own else f"fits with {asks}"
    if any(memory.largest.values()):
        return
    if memory.needed is None:
        yield "remedy", "no number of devices helps: a shorter task.max_length, a smaller model, or an adapter does"
    else:
        yield "remedy", f"{memory.needed:,} devices by fsdp2; or a smaller model, or an adapter"


def of_time(estimate: Estimate) -> Iterator[tuple[str, str]]:
    """Yields updates in all, those saved, and hours, where a pace is known."""
    sharing = estimate.sharing
    if sharing is not None:
        yield (
            "to be made",
            f"{counted(sharing.runs, 'run')}, {sharing.updates - sharing.saved:,} updates "
            f"({sharing.saved:,} saved by starts in common)",
        )
    if estimate.pace is None:
        yield "hours", "not known: no run of this kind is on record; give --seconds-per-update"
        return
    pace, hours = estimate.pace, estimate.device_hours
    if hours is None:
        yield "hours", "not known, as the number of updates isn't"
        return
    kind = "GPU-hours" if pace.device == "cuda" else f"hours of {pace.device.upper()}"
    also = "" if pace.evaluating is None else f"; evaluations took {pace.evaluating:.0%} of that besides"
    updates = f"{estimate.updates or 0:,} updates of {pace.seconds_per_update:.3g} s"
    yield "hours", f"{hours:,.2f} {kind}: {updates}, {pace.source}{also}"
