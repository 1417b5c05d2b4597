"""What a run is about to do: everything that can be known, or can fail, before the first update."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from rich.console import Console

from finetune.errors import counted, listed, settings_within
from finetune.evaluation.record import ModelIdentity
from finetune.metrics import load_metric
from finetune.recipe.regularisation import in_words as regularisation_in_words
from finetune.training.batches import LengthGroupedBatches
from finetune.training.execution import check_execution
from finetune.training.layer_preparation import anatomy_of_model, check_groups, prepare_layers
from finetune.training.layers import in_words as layers_in_words
from finetune.training.layout import Horizon, Layout, layout_of, plan_horizon
from finetune.training.material import Library, Material, check_classes, describe_source, training_examples
from finetune.training.noise import add_noise
from finetune.training.outlook import in_words
from finetune.training.parallelism import parallelism_asked_for
from finetune.training.precision import Format, resolve_precision
from finetune.training.progress import say, say_table
from finetune.training.recording import weights_fingerprint

if TYPE_CHECKING:
    from finetune.metrics.base import Metric
    from finetune.recipe import Recipe
    from finetune.tasks.base import Split
    from finetune.tasks.pretrained import LoadedModel


@dataclass(frozen=True)
class Plan:
    """A run, ready to be trained into the directory `run`."""

    recipe: Recipe
    run: Path
    layout: Layout
    material: Material
    train: Split
    loaded: LoadedModel
    model: ModelIdentity
    batches: LengthGroupedBatches
    horizon: Horizon
    precision: Format
    metrics: tuple[Metric, ...]


def lay_out_updates(recipe: Recipe, *, layout: Layout, library: Library) -> tuple[Split, LengthGroupedBatches, Horizon]:
    """Returns the examples to train on, their batches, and the run in updates; raises FinetuneError."""
    check_classes(recipe, library.data(recipe).classes)
    train = training_examples(recipe, library.material(recipe))
    batches = LengthGroupedBatches(
        train.lengths,
        batch_size=recipe.training.batch_size,
        seed=recipe.training.seed,
        processes=layout.processes,
        rank=layout.rank,
        accumulation=layout.accumulation,
    )
    horizon = plan_horizon(
        recipe, updates_per_epoch=batches.updates_per_epoch, samples=len(train), tokens=int(train.lengths.sum())
    )
    return train, batches, horizon


def make_plan(recipe: Recipe, *, run: Path, layout: Layout, library: Library) -> Plan:
    """Encodes the data, lays out the updates and loads the model, in the order of their cost.

    Raises FinetuneError for whatever can't be had.
    """
    precision = resolve_precision(recipe.training.precision, layout.device)
    with settings_within("evaluation"):
        metrics = tuple(
            load_metric(name, trust_remote_code=library.trust_remote_code) for name in recipe.evaluation.scored_by
        )
    check_execution(recipe, layout)
    train, batches, horizon = lay_out_updates(recipe, layout=layout, library=library)
    material = library.material(recipe)
    loaded = library.model(recipe)
    random = prepare_layers(loaded.model, recipe)
    check_groups(loaded.model, recipe, horizon.run)
    parameters = list(loaded.model.parameters())
    trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    count = sum(parameter.numel() for parameter in parameters)
    if recipe.regularisation is not None and recipe.regularisation.neftune is not None:
        add_noise(loaded.model, alpha=recipe.regularisation.neftune)
    model = ModelIdentity(
        source=describe_source(recipe),
        commit=loaded.commit,
        architecture=type(loaded.model).__name__,
        parameters=count,
        new_tensors=sorted({*loaded.new_tensors, *random}),
        initial_weights=weights_fingerprint(loaded.model),
        trained_parameters=trained if trained < count else None,
    )
    return Plan(recipe, run, layout, material, train, loaded, model, batches, horizon, precision, metrics)


def mean_factor(recipe: Recipe, library: Library) -> float:
    """Returns the mean over the run of the factor by which the schedule multiplies the peak rate."""
    _, _, horizon = lay_out_updates(recipe, layout=layout_of(recipe), library=library)
    factor = recipe.schedule.over(horizon.run, peak=recipe.optimizer.learning_rate)
    return math.fsum(map(factor, range(horizon.total_steps))) / horizon.total_steps


def show_plan(plan: Plan, console: Console, *, precision: str, resumed_at: int) -> None:
    """Prints what is about to happen; `precision` is the one in force."""
    recipe, horizon, layout = plan.recipe, plan.horizon, plan.layout
    optimizer = recipe.optimizer
    is_even = layout.processes * layout.accumulation * layout.micro_batch_size == recipe.training.batch_size
    part = f"{'' if is_even else 'up to '}{layout.micro_batch_size}"
    devices = f"{layout.processes} process{'es' if layout.processes > 1 else ''}"
    say(console, f"{recipe.name}: {plan.model.source} on {_sizes(plan)}")
    rows = [
        *_of_examples(plan),
        ("model", f"{plan.model.architecture}, {_parameters(plan.model)}; {_new_tensors(plan)}"),
        ("schedule", in_words(recipe.schedule)),
        (
            "optimizer",
            f"{optimizer.name}, peak rate {optimizer.learning_rate:g}, weight decay {optimizer.weight_decay:g}",
        ),
        (
            "batches",
            f"{recipe.training.batch_size} = {devices} × {layout.accumulation} accumulated × {part}",
        ),
        *_of_layers(plan),
        ("updates", f"{horizon.updates_per_epoch} an epoch, {horizon.total_steps} in all"),
        *regularisation_in_words(recipe),
        ("precision", f"{precision} on {layout.device.type}{_threads(layout)}{_precision_note(plan, precision)}"),
        ("output", str(plan.run)),
    ]
    if recipe.adapter is not None:
        rows.insert(3, ("adapter", recipe.adapter.describe()))
    if parallelism_asked_for() == "fsdp2":
        rows.append(("parallelism", "FSDP2: each process holds a shard of the model"))
    rows += [("caution", caution) for caution in plan.material.cautions]
    if plan.material.not_kept:
        rows.append(("cache", f"{plan.material.not_kept}; the run goes on without it"))
    if recipe.tracking:
        rows.append(("tracking", ", ".join(recipe.tracking)))
    if resumed_at:
        rows.append(("resumed", f"after update {resumed_at}, from the checkpoint of an interrupted run"))
    say_table(console, rows)


def _of_layers(plan: Plan) -> Iterator[tuple[str, str]]:
    if plan.recipe.layers is None:
        return
    blocks = anatomy_of_model(plan.loaded.model).blocks
    yield from layers_in_words(plan.recipe, plan.horizon.run, blocks=blocks)


def _sizes(plan: Plan) -> str:
    sizes = {name: f"{len(split):,} {name}" for name, split in plan.material.splits.items()}
    if len(plan.train) < len(plan.material.splits["train"]):
        sizes["train"] = f"{len(plan.train):,} of {sizes['train']}"
    return ", ".join(sizes.values()) + " examples"


def _of_examples(plan: Plan) -> Iterator[tuple[str, str]]:
    lengths, longest = plan.train.lengths, plan.recipe.task.longest
    if plan.material.classes:
        yield "classes", listed(plan.material.classes)
    if longest is not None:
        yield "tokens", f"{lengths.mean():.0f} on average, {lengths.max()} at most; {_truncated(plan, longest)}"


def _truncated(plan: Plan, longest: int) -> str:
    count = sum(split.truncated for split in plan.material.splits.values())
    total = sum(len(split) for split in plan.material.splits.values())
    return f"{count:,} of {total:,} examples ({count / total:.1%}) cut to {longest}"


def _parameters(model: ModelIdentity) -> str:
    count = model.trained_parameters
    trained = "" if count is None else f", {_many(count)} trained"
    return f"{_many(model.parameters)} parameters{trained}"


def _many(count: int) -> str:
    return f"{count / 1e6:.1f}M" if count >= 1e5 else f"{count:,}"


def _new_tensors(plan: Plan) -> str:
    new = plan.model.new_tensors
    return f"new: {', '.join(new)}" if 0 < len(new) <= 4 else f"{len(new)} new tensors"


def _threads(layout: Layout) -> str:
    if layout.device.type != "cpu":
        return ""
    return f", {counted(torch.get_num_threads(), 'thread')} a process"


def _precision_note(plan: Plan, precision: str) -> str:
    return f" (Accelerate's setting; the recipe asked for {plan.precision})" if precision != plan.precision else ""
