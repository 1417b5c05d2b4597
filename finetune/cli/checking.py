"""`finetune check`: what a recipe or a study will do, before it does it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from finetune.cli.estimating import of_fit, of_memory, of_time, table_rows
from finetune.cli.speech import print_json
from finetune.errors import counted
from finetune.figures import Curve, print_curves
from finetune.keys import brief
from finetune.recipe import PEAK, SEED, Rung, is_study, load_recipe, load_study
from finetune.recipe.regularisation import in_words as regularisation_in_words
from finetune.training.layers import LAYERS
from finetune.training.layers import in_words as layers_in_words
from finetune.training.material import describe_source
from finetune.training.outlook import Lengths, Outlook, RunState, SplitOutlook, StudyOutlook, in_words
from finetune.training.preview import preview_run, preview_study
from finetune.untrusted import presentable

if TYPE_CHECKING:
    from finetune.estimates.outlook import Asked, Estimate

MOST_CLASSES, MOST_SETTINGS, MOST_UPDATES = 4, 40, 8
UNLIMITED = 10_000
UNKNOWN = "not known before a run has encoded the data by the model's own tokenizer"
CLEAN = "none: no text is in two splits, repeated or blank"
CLEAN_IMAGES = "none: no image is in two splits or repeated"


def check(
    path: Path, overrides: Sequence[str], *, allow_plugins: bool, as_json: bool, asked: Asked | None = None
) -> None:
    """Prints what the recipe or study in the file `path` will do, and the estimate that is `asked` for, if one is.

    Raises FinetuneError for what would be refused.
    """
    outlook = outlook_of(path, overrides, allow_plugins=allow_plugins)
    estimate = None if asked is None else _estimate(outlook, asked, source=path)
    if as_json:
        print_json(outlook.to_dict() | ({} if estimate is None else {"estimate": estimate.to_dict()}))
        return
    console = Console()
    if isinstance(outlook, StudyOutlook):
        _show_study(outlook, console)
    else:
        _show_run(outlook, console)
    if estimate is not None:
        _show_estimate(estimate, console)


def outlook_of(path: Path, overrides: Sequence[str] = (), *, allow_plugins: bool = False) -> Outlook | StudyOutlook:
    """Returns what the recipe or study in the file `path` will do; raises FinetuneError for what would be refused."""
    if is_study(path, overrides):
        return preview_study(load_study(path, overrides, allow_plugins=allow_plugins), source=path)
    return preview_run(load_recipe(path, overrides, allow_plugins=allow_plugins), source=path)


def _estimate(outlook: Outlook | StudyOutlook, asked: Asked, *, source: Path) -> Estimate:
    from finetune.estimates.outlook import estimate_run, estimate_study

    if isinstance(outlook, StudyOutlook):
        return estimate_study(outlook, asked, source=source)
    return estimate_run(outlook, asked)


def _show_estimate(estimate: Estimate, console: Console) -> None:
    _say(console)
    _say_rows(console, of_memory(estimate))
    if estimate.memory is not None:
        titles, rows = table_rows(estimate.memory)
        table = _table(titles, labels=1)
        for row in rows:
            table.add_row(*map(_text, row))
        _print_table(table, console)
        _say(console)
        _say_rows(console, of_fit(estimate.memory))
    _say_rows(console, of_time(estimate))


def _show_run(outlook: Outlook, console: Console) -> None:
    _say(console, f"{outlook.recipe.name}: {describe_source(outlook.recipe)}, one run")
    _show_data([outlook], console)
    _say(console)
    _say_rows(console, [*_of_training(outlook), ("output", f"{outlook.run}: {_found(outlook.found)}")])
    _say_rows(console, _cautions(outlook.cautions, outlook.splits))
    steps, rates = outlook.rates()
    if steps:
        _say(console)
        curves = [Curve(_label(name), steps, rates[name]) for name in _plotted(outlook, rates)]
        print_curves(curves, console, height=8, x_title="update", y_title="rate")


def _plotted(outlook: Outlook, rates: Iterable[str]) -> list[str]:
    """Returns the names of `rates` that parameters follow: none the recipe's own where each layer has its own."""
    return [name for name in rates if len(outlook.layers) < 2 or name != outlook.recipe.schedule.name]


def _label(name: str) -> str:
    """Returns what a rate is called in the plot, where all blocks of a model share a name and a colour."""
    own = name.removeprefix(f"{LAYERS}.")
    return "blocks" if own.isdigit() and own != name else own


def _show_study(outlook: StudyOutlook, console: Console) -> None:
    study, recipe = outlook.study, outlook.settings[0].recipe
    settings, seeds = counted(len(study.settings), "setting"), counted(len(study.seeds), "seed")
    runs = f"{settings} on {seeds}: {counted(study.count, 'run')}"
    _say(console, f"{study.name}: {describe_source(recipe)}, {runs}")
    _show_data(outlook.settings, console)
    _print_table(_settings_table(outlook), console)
    if len(outlook.settings) > MOST_SETTINGS:
        _say(console, f"and {len(outlook.settings) - MOST_SETTINGS:,} settings more")
    _say(console)
    _say_rows(console, _of_study(outlook))
    _say_rows(console, _cautions(outlook.cautions, outlook.settings[0].splits))


def _cautions(cautions: Sequence[str], splits: Mapping[str, SplitOutlook]) -> Iterator[tuple[str, str]]:
    are_images = any(split.sizes for split in splits.values())
    for caution in cautions or [CLEAN_IMAGES if are_images else CLEAN]:
        yield "caution", caution


def _show_data(outlooks: Sequence[Outlook], console: Console) -> None:
    """Prints the splits, which the outlooks differ in by how much they use of them, if at all."""
    splits = outlooks[0].splits
    classes = next(iter(splits.values())).classes
    few = len(classes) <= MOST_CLASSES
    shares = list(classes) if few else [f"commonest of {len(classes):,}", "rarest"]
    are_texts = any(split.characters for split in splits.values())
    are_counted = any(split.tokens for split in splits.values())
    lengths = ("words", "at most", *(("tokens", "at most", "cut") if are_counted else ())) if are_texts else ()
    sizes = ("smallest", "largest") if any(split.sizes for split in splits.values()) else ()
    table = _table(["split", "examples", *shares, *lengths, *sizes], labels=1)
    for name, split in splits.items():
        used = [outlook.splits[name].used for outlook in outlooks if name in outlook.splits]
        shown = [_share(split, each) for each in classes] if few else _extremes(split)
        table.add_row(*map(_text, (name, _used(used, split.examples), *shown, *_sizes(split))))
    _print_table(table, console)
    counted = {name: split.tokens.counted for name, split in splits.items() if split.tokens}
    if are_texts and not counted:
        _say(console, "tokens: the model is in no folder with a tokenizer.json to count them by")
    elif any(count < splits[name].examples for name, count in counted.items()):
        _say(console, f"tokens: of {', '.join(f'{count:,} {name}' for name, count in counted.items())} texts")


def _used(used: Sequence[int], examples: int) -> str:
    if min(used) == examples:
        return f"{examples:,}"
    least, most = f"{min(used):,}", f"{max(used):,}"
    return f"{least if least == most else f'{least} to {most}'} of {examples:,}"


def _share(split: SplitOutlook, name: str) -> str:
    return f"{split.classes[name] / split.examples:.1%}"


def _extremes(split: SplitOutlook) -> list[str]:
    ranked = sorted(split.classes, key=lambda name: -split.classes[name])
    return [f"{name} {_share(split, name)}" for name in (ranked[0], ranked[-1])]


def _sizes(split: SplitOutlook) -> Iterator[str]:
    if split.words:
        yield from _lengths(split.words)
    if split.tokens:
        yield from _lengths(split.tokens.lengths)
        yield f"{split.tokens.cut / split.tokens.counted:.1%}"
    if split.sizes:
        yield from (f"{width:,} × {height:,}" for width, height in (split.sizes.smallest, split.sizes.largest))


def _lengths(lengths: Lengths) -> tuple[str, str]:
    return f"{lengths.mean:,.0f}", f"{lengths.longest:,}"


def _of_training(outlook: Outlook) -> Iterator[tuple[str, str]]:
    recipe, horizon = outlook.recipe, outlook.horizon
    optimizer, training = recipe.optimizer, recipe.training
    yield "schedule", in_words(recipe.schedule)
    yield (
        "optimizer",
        f"{optimizer.name}, peak rate {optimizer.learning_rate:g}, weight decay {optimizer.weight_decay:g}",
    )
    if recipe.adapter is not None:
        yield "adapter", recipe.adapter.describe()
    for name, group in recipe.groups.items():
        peak = group.learning_rate or optimizer.learning_rate
        yield f"group {name}", f"{group.parameters}: {in_words(recipe.schedule_of(name))}, peak rate {peak:g}"
    yield from layers_in_words(recipe, horizon.run if horizon else None, blocks=outlook.blocks)
    yield from regularisation_in_words(recipe)
    micro = training.micro_batch_size
    yield (
        "batches",
        f"{counted(training.batch_size, 'example')} an update{f', at most {micro} at a time' if micro else ''}",
    )
    if horizon is None:
        yield "updates", UNKNOWN
        return
    yield "updates", f"{horizon.updates_per_epoch:,} an epoch, {horizon.total_steps:,} in all"
    yield "evaluations", f"{_after(outlook.evaluations)}; {_kept(outlook)}"
    yield "checkpoints", _after(outlook.checkpoints)


def _after(updates: Sequence[int]) -> str:
    if not updates:
        return "none before the run ends"
    shown = ", ".join(f"{update:,}" for update in updates[:MOST_UPDATES])
    more = f", … {updates[-1]:,}" if len(updates) > MOST_UPDATES else ""
    return f"{len(updates):,}, after update {shown}{more}"


def _kept(outlook: Outlook) -> str:
    evaluation = outlook.recipe.evaluation
    return (
        f"the model with the best {evaluation.selecting} is kept" if evaluation.keep == "best" else "the last is kept"
    )


def _found(found: RunState) -> str:
    if found.changed:
        changed = ", ".join(found.changed)
        return f"{found.state} there on other data, as the {changed} split has changed since; --repeat begins anew"
    return {
        "new": "not there yet",
        "begun": "begun there, without a checkpoint to go on from",
        "interrupted": f"interrupted there after update {found.step}; it goes on from there",
        "recorded": "recorded there; --repeat runs it again",
        "running": "another process is at work there",
    }[found.state]


def _settings_table(outlook: StudyOutlook) -> Table:
    keys = [key for key in outlook.study.keys if key not in (SEED, PEAK)]
    table = _table([*(key.removesuffix(".name") for key in keys), "peak", "updates"], labels=len(keys))
    settings = zip(outlook.study.settings, outlook.settings, strict=True)
    for setting, each in list(settings)[:MOST_SETTINGS]:
        words = {"schedule": in_words(each.recipe.schedule), "optimizer": each.recipe.optimizer.name}
        cells = [words.get(key.removesuffix(".name")) or brief(setting.values[key]) for key in keys]
        updates = f"{each.horizon.total_steps:,}" if each.horizon else "?"
        table.add_row(*map(_text, (*cells, f"{each.recipe.optimizer.learning_rate:g}", updates)))
    return table


def _of_study(outlook: StudyOutlook) -> Iterator[tuple[str, str]]:
    study = outlook.study
    if study.block.tuning:
        factors = ", ".join(f"{factor:g}" for factor in study.block.tuning.factors)
        seeds = counted(len(study.block.tuning.seeds), "other seed")
        yield "peaks", f"the best on validation of {factors} times the setting's own, tried first on {seeds}"
        if study.block.tuning.halving:
            yield "halving", ", ".join(f"{rung.peaks} peaks {_length(rung)}" for rung in study.rungs)
    if study.block.equal_area:
        yield "peaks", "such that the rates of all schedules add up to the same"
    yield "updates", UNKNOWN if outlook.updates is None else f"{outlook.updates:,} in all runs together"
    yield "output", f"{outlook.directory}: {counted(outlook.recorded, 'run')} recorded there"


def _length(rung: Rung) -> str:
    return "in full" if rung.is_last else f"for {rung.share} of the duration"


def _table(columns: Sequence[str], *, labels: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for number, column in enumerate(columns):
        table.add_column(_text(column), justify="left" if number < labels else "right", no_wrap=True)
    return table


def _print_table(table: Table, console: Console) -> None:
    """Prints `table` at its natural width: where the window is narrower, whole lines wrap, and no cell is cut short."""
    table.width = console.measure(table, options=console.options.update(max_width=UNLIMITED)).maximum
    _say(console)
    console.print(table, crop=False)


def _say_rows(console: Console, rows: Iterable[tuple[str, str]]) -> None:
    for name, text in rows:
        _say(console, f"{name:<12} {text}")


def _say(console: Console, line: str = "") -> None:
    console.print(_text(line), highlight=False, soft_wrap=True)


def _text(words: str) -> Text:
    """Returns `words` as they stand: nothing that a stranger wrote in a recipe or in data is markup or a command."""
    return Text(presentable(words))
