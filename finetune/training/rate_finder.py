"""Short trainings while the rate climbs: what `rate_curve` reads the peak rate from."""

from __future__ import annotations

import dataclasses
import gc
import math
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments, set_seed

from finetune.errors import SettingError, counted
from finetune.schedules import Constant
from finetune.training.adapters import LORA_B
from finetune.training.arguments import training_arguments
from finetune.training.clock import TrainingClock
from finetune.training.history import History
from finetune.training.layout import Layout, layout_of
from finetune.training.losses import training_loss
from finetune.training.material import Library
from finetune.training.plan import make_plan
from finetune.training.progress import RunProgress, say, say_table
from finetune.training.random_state import preserved_random_state, seed_of_process
from finetune.training.rate_curve import RateCurve, RateSearch, RateSpread, read_curve, until_divergence
from finetune.training.trainer import ScheduledTrainer

if TYPE_CHECKING:
    from rich.console import Console

    from finetune.recipe import Recipe

FEWEST_UPDATES = 10


def find_rate(
    recipe: Recipe,
    *,
    least: float,
    most: float,
    updates: int,
    seeds: int,
    console: Console,
    trust_remote_code: bool = False,
) -> RateSearch:
    """Trains `recipe` once per seed, from its own seed upwards, while the rate climbs from `least` to `most`.

    Model, data, optimizer, batch size, clipping and precision are the recipe's; its schedule and duration are not used,
    nor are its groups: all parameters are at one rate, but those of layers that it freezes, and for an adapter's
    `b_rate`.
    Each seed draws its own head, batches and dropout, and starts from the pretrained weights. Where an epoch has fewer
    than `updates` updates, the next one follows. A seed ends early where its loss is not finite, or where the smoothed
    loss is more than four times its least value so far and more than its first: a loss that has fallen to nearly
    nothing passes the former by noise alone.

    Nothing is evaluated or kept, nothing is written to the recipe's output, and the random state is afterwards what it
    was. Under a launcher every process calls this, and the main one speaks. `trust_remote_code`: whether code that
    comes with the model may run. Raises SettingError, before anything is read, unless 0 < least < most, updates ≥ 10
    and seeds ≥ 1; and FinetuneError for whatever the recipe, the data, the model or the machine can't give.
    """
    _check(recipe, least=least, most=most, updates=updates, seeds=seeds)
    layout = layout_of(recipe)
    console.quiet = console.quiet or not layout.is_main
    library = Library(keep_weights=True, trust_remote_code=trust_remote_code)
    say(
        console,
        f"{recipe.name}: {recipe.optimizer.name}, rates from {least:g} to {most:g} over {updates} updates, "
        f"{counted(seeds, 'seed')}",
    )
    curves = []
    for seed in range(recipe.training.seed, recipe.training.seed + seeds):
        climbing = _climbing(recipe, least=least, most=most, updates=updates, seed=seed)
        with preserved_random_state():
            rates, losses = _train(climbing, updates=updates, layout=layout, library=library, console=console)
        gc.collect()  # a trainer refers to itself, and would keep its model in memory beside the next
        curve = read_curve(seed, rates, losses, updates=updates)
        say(console, f"  seed {seed}  {_in_words(curve)}")
        curves.append(curve)
    search = RateSearch(least=least, most=most, updates=updates, curves=tuple(curves))
    _show(search, console)
    return search


def _check(recipe: Recipe, *, least: float, most: float, updates: int, seeds: int) -> None:
    for field, rate in (("least", least), ("most", most)):
        if not 0 < rate < math.inf:
            raise SettingError(field, f"{rate:g} must be a rate above 0, and finite")
    if least >= most:
        raise SettingError("least", f"{least:g} must be below most, {most:g}: the rate climbs from one to the other")
    if updates < FEWEST_UPDATES:
        raise SettingError(
            "updates", f"{updates} are too few to see a loss fall and rise: give {FEWEST_UPDATES} or more"
        )
    if seeds < 1:
        raise SettingError("seeds", f"{seeds} must be at least 1; the spread over 3 or more says what is noise")
    if recipe.training.seed + seeds > 2**32:
        raise SettingError("seeds", f"{seeds} from training.seed {recipe.training.seed} on go beyond 2³² − 1")


def _climbing(recipe: Recipe, *, least: float, most: float, updates: int, seed: int) -> Recipe:
    """Returns `recipe` with the climb in place of its schedule: update 0 is made at `least`, the last at `most`."""
    return recipe.model_copy(
        update={
            "schedule": Constant(warmup=updates - 1, warmup_shape="exponential", warmup_start=least / most),
            "optimizer": dataclasses.replace(recipe.optimizer, learning_rate=most),
            "groups": {},
            "layers": recipe.layers and recipe.layers.at_one_rate(),
            "training": recipe.training.model_copy(update={"duration": updates, "seed": seed, "on_non_finite": "stop"}),
        }
    )


class _StopWhenDiverged(TrainerCallback):
    """Ends training once the losses read by `history`, which must come before it, have diverged."""

    def __init__(self, history: History, *, updates: int) -> None:
        self._history = history
        self._updates = updates

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        losses = [row["loss"] for row in self._history.updates]
        control.should_training_stop |= until_divergence(losses, updates=self._updates)[-1]
        return control


def _train(
    recipe: Recipe, *, updates: int, layout: Layout, library: Library, console: Console
) -> tuple[list[float], list[float | None]]:
    """Returns the rate and the loss of each update made, some of them beyond the one at which the loss diverged."""
    clock, progress = TrainingClock(), RunProgress(console)
    with TemporaryDirectory() as folder:
        plan = make_plan(recipe, run=Path(folder), layout=layout, library=library)
        trainer = ScheduledTrainer(
            model=plan.loaded.model,
            args=training_arguments(plan),
            recipe=recipe,
            batches=plan.batches,
            lengths=plan.horizon.run,
            compute_loss_func=training_loss(recipe, classes=plan.material.classes, train=plan.train),
            validate=lambda _: {},
            checkpoint=lambda _: None,
            clock=clock,
            data_collator=recipe.task.collator(plan.material.processor),
            train_dataset=plan.material.splits["train"],
            processing_class=plan.material.processor,
        )
        history = History(
            None,
            clock=clock,
            take_update=trainer.take_update,
            mean_over_processes=trainer.mean_over_processes,
            show=progress.show if console.is_terminal else lambda _: None,
        )
        trainer.remove_callback(PrinterCallback)
        for callback in (history, _StopWhenDiverged(history, updates=updates), progress):
            trainer.add_callback(callback)
        set_seed(seed_of_process(recipe.training.seed, layout.rank))
        clock.start()
        try:
            trainer.train()
        finally:
            progress.stop()
    rows = history.updates
    return [_rate(row["rates"]) for row in rows], [row["loss"] for row in rows]


def _rate(rates: Mapping[str, float]) -> float:
    """Returns the one rate of all groups but those that an adapter has at a multiple of it."""
    return max(rate for group, rate in rates.items() if not group.endswith(f".{LORA_B}"))


def _in_words(curve: RateCurve) -> str:
    if not curve.losses:
        return f"the first loss is not finite; no suggestion: {curve.reason}"
    ending = f"diverged at {curve.rates[-1]:.1e}" if curve.diverged else "ended"
    bottom = int(np.argmin(curve.smoothed_losses))
    found = f"falls fastest at {curve.suggestion:.1e}" if curve.suggestion else f"no suggestion: {curve.reason}"
    return (
        f"loss {curve.smoothed_losses[0]:.3f}, least {curve.smoothed_losses[bottom]:.3f} at "
        f"{curve.rates[bottom]:.1e}, {ending} with {curve.smoothed_losses[-1]:.3f}; {found}"
    )


def _show(search: RateSearch, console: Console) -> None:
    count, suggestion, tenth = len(search.curves), search.suggestion, search.tenth_of_least
    found = f"{_in_range(suggestion, count)}, where the loss falls fastest" if suggestion else f"none: {search.reason}"
    rows = [("suggestion", found)]
    if tenth:
        rows.append(("or", f"{_in_range(tenth, count)}, a tenth of where it is least"))
    say_table(console, [*rows, ("limits", search.limits)])


def _in_range(spread: RateSpread, count: int) -> str:
    return f"{spread.value:.1e} [{spread.least:.1e}–{spread.greatest:.1e} over {len(spread.seeds)} of {count} seeds]"
