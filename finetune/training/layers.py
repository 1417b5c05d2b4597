"""The layers of a model, by the names of its parameters alone: its embeddings, its numbered blocks, its head.

A block is what has a number under one of the names layer, layers, h, block and blocks, the outermost where there are
several: `encoder.layer.3.`, `h.3.`, `layers.3.`, `encoder.block.3.layer.0.`. Blocks are numbered from 0 at the bottom,
through an encoder and then its decoder. What comes before the first block, or has "embed" in its name, or is a bias of
attention that all blocks share, is embeddings; what the body has after a block, such as a norm or a pooler, belongs to
that block, but is not frozen with it above the top one. The head is what isn't in the body, the model under its
`base_model_prefix`.

With L blocks, the recipe's peak η, the head's factor f (`head_rate`, or 1) and a decay γ (`rate_decay`, or 1), the peak
is

    f·η             of the head
    η·γ^k           of the block k below the top one, so η of that, and η·γ^(L−1) of block 0
    η·γ^L           of the embeddings

Where layers are unfrozen every u updates, the head is trained from update 0 on, the block k below the top one from
update (k + 1)·u, the embeddings from (L + 1)·u. All follow the recipe's schedule from the first update of the run on,
which is merely multiplied by 0 before a layer's own, so that one unfrozen late starts where the others then are.
Parameters that are in a group of the recipe's own follow that alone, unless they are frozen.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import TYPE_CHECKING

from finetune.errors import SettingError, listed, settings_within
from finetune.schedules import Run, parse_duration

if TYPE_CHECKING:
    from finetune.recipe import Recipe
    from finetune.recipe.layers import LayerSettings

LAYERS = "layers"
HEAD, EMBEDDINGS = f"{LAYERS}.head", f"{LAYERS}.embeddings"

_BLOCK = re.compile(r"(?:^|.*?\.)(?:layers?|blocks?|h)\.\d+(?=\.)")
_BELOW_ALL = re.compile(r"embed|(?:^|\.)(?:wte|wpe|relative_attention_bias)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Anatomy:
    """Where the parameters of a model are. `places`: name ▶ 0 for the embeddings, i + 1 for block i, `blocks` + 1 for
    what the body has above its blocks, `blocks` + 2 for the head."""

    places: Mapping[str, int]
    blocks: int

    @cached_property
    def head(self) -> tuple[str, ...]:
        """The names of the head's parameters; none where the model is all body."""
        return tuple(name for name, place in self.places.items() if place == self.blocks + 2)


@dataclass(frozen=True)
class LayerGroup:
    """Parameters of one `peak` rate, which are trained from update `start` on."""

    name: str
    peak: float
    start: int = 0

    @property
    def label(self) -> str:
        """What it is called beside others: head, embeddings, or a block by its number."""
        own = self.name.removeprefix(f"{LAYERS}.")
        return f"block {own}" if own.isdigit() else own


def block_of(name: str) -> str | None:
    """Returns the name of the block that the parameter `name` is in, or None."""
    found = _BLOCK.match(name)
    return found[0] if found else None


def count_blocks(names: Iterable[str]) -> int:
    """Returns how many numbered blocks the parameters called `names` are in."""
    return len({block for name in names if (block := block_of(name)) is not None})


def anatomy_of(names: Iterable[str], *, body: str) -> Anatomy:
    """Returns the anatomy of a model whose parameters are called `names`, in the order of its modules.

    `body`: the prefix of what isn't its head; where none has it, all is body.
    """
    names = list(names)
    has_head = any(name.startswith(f"{body}.") for name in names)
    blocks: dict[str, int] = {}
    places: dict[str, int] = {}
    after: dict[str, int] = {}
    heads = []
    for name in names:
        block = block_of(name)
        if has_head and not name.startswith(f"{body}."):
            heads.append(name)
        elif block is not None:
            places[name] = blocks.setdefault(block, len(blocks) + 1)
        elif not blocks or _BELOW_ALL.search(name):
            places[name] = 0
        else:
            after[name] = len(blocks)
    top = len(blocks)
    places |= {name: top + 1 if place == top else place for name, place in after.items()}
    places |= dict.fromkeys(heads, top + 2)
    return Anatomy({name: places[name] for name in names}, top)


def check_blocks(settings: LayerSettings, blocks: int) -> None:
    """Raises SettingError where `settings` are about more numbered blocks than the model's."""
    if settings.needs_blocks and blocks == 0:
        key = next(key for key in ("rate_decay", "unfreeze", "reinitialise", "freeze") if getattr(settings, key))
        raise SettingError(
            f"{LAYERS}.{key}",
            "goes by numbered blocks, such as layer.0, h.0 or blocks.0, and the model's parameters are in none; "
            "freeze takes patterns of their names too, and head_rate needs no blocks",
        )
    for key, number in (("freeze", settings.freeze), ("reinitialise", settings.reinitialise)):
        if isinstance(number, int) and number > blocks:
            raise SettingError(f"{LAYERS}.{key}", f"{number} is more than the model has blocks, which are {blocks}")
    if isinstance(settings.freeze, int) and settings.freeze + (settings.reinitialise or 0) > blocks:
        raise SettingError(
            f"{LAYERS}.reinitialise",
            f"{settings.reinitialise} of the model's {blocks} blocks from the top are not left by freeze: "
            f"{settings.freeze}, and what starts at random must be trained; lower one of them",
        )


def lowest_trained(settings: LayerSettings) -> int:
    """Returns the lowest place that isn't frozen by depth, in the places of `Anatomy`; 0 with freeze: body."""
    if settings.freeze == "embeddings":
        return 1
    return settings.freeze + 1 if isinstance(settings.freeze, int) else 0


def frozen_names(settings: LayerSettings, anatomy: Anatomy) -> set[str]:
    """Returns the names of the parameters that `freeze` takes.

    Raises SettingError, under layers.freeze, for a pattern that is found in none, and where none are left.
    """
    if isinstance(settings.freeze, tuple):
        frozen = {name for pattern in settings.freeze for name in _found(pattern, anatomy.places)}
    else:
        lowest = anatomy.blocks + 2 if settings.freeze == "body" else lowest_trained(settings)
        frozen = {name for name, place in anatomy.places.items() if place < lowest}
    if len(frozen) == len(anatomy.places):
        why = "body takes all of a model that has no head" if settings.freeze == "body" else "takes all parameters"
        raise SettingError(f"{LAYERS}.freeze", f"{why}, and leaves none of the {len(frozen)} to train: freeze fewer")
    return frozen


def _found(pattern: str, names: Mapping[str, int]) -> list[str]:
    found = [name for name in names if re.search(pattern, name)]
    if not found:
        near = get_close_matches(re.sub(r"[\\^$]", "", pattern), names, n=3, cutoff=0.3) or [*names][:3]
        raise SettingError(f"{LAYERS}.freeze", f'"{pattern}" is in no name of a parameter, such as {", ".join(near)}')
    return found


def reinitialised_names(settings: LayerSettings, anatomy: Anatomy) -> set[str]:
    """Returns the names of the parameters that start at random: of the top blocks, and what the body has above."""
    if settings.reinitialise is None:
        return set()
    lowest = anatomy.blocks + 1 - settings.reinitialise
    return {name for name, place in anatomy.places.items() if lowest <= place <= anatomy.blocks + 1}


def unfreezing_interval(settings: LayerSettings, run: Run) -> int | None:
    """Returns after how many updates each next layer is unfrozen; None where all are trained from the start."""
    if settings.unfreeze is None:
        return None
    return parse_duration(settings.unfreeze.every, field=f"{LAYERS}.unfreeze.every").steps(run)


def layer_groups(recipe: Recipe, run: Run, *, blocks: int | None) -> list[LayerGroup]:
    """Returns the groups that `layers` of `recipe` makes, from the head downwards; those frozen by depth left out.

    Without a rate that goes by depth there is the head's alone, and all else is in the optimizer's own groups; so
    where `blocks` is None, as they aren't known. Raises SettingError where a peak doesn't fit the recipe's schedule.
    """
    settings, peak = recipe.layers, recipe.optimizer.learning_rate
    if settings is None or not settings.sets_rates:
        return []
    groups = [LayerGroup(HEAD, peak * (settings.head_rate or 1.0))]
    if settings.goes_by_depth and blocks is not None:
        decay, every = settings.rate_decay or 1.0, unfreezing_interval(settings, run) or 0
        lowest = lowest_trained(settings)
        names = [f"{LAYERS}.{number}" for number in reversed(range(blocks))] + [EMBEDDINGS]
        groups += [
            LayerGroup(name, peak * decay**below, (below + 1) * every)
            for below, name in enumerate(names)
            if blocks - below >= lowest or below == 0  # what lies above the top block goes with it
        ]
    for group in groups:
        with settings_within(f"{LAYERS}, for the peak {group.peak:g} of {group.label}, schedule"):
            recipe.schedule.over(run, peak=group.peak)
    return groups


def group_of_each(groups: Iterable[LayerGroup], anatomy: Anatomy) -> dict[str, LayerGroup]:
    """Returns the group of each parameter that is in one of `groups`, by name, in the order of the groups.

    Raises SettingError where the model has no head, on which the others' rates are based.
    """
    named = {group.name: group for group in groups}
    if named and not anatomy.head:
        raise SettingError(LAYERS, "head_rate, rate_decay and unfreeze need a head, and the model is all body")
    top = anatomy.blocks
    names = {0: EMBEDDINGS, top + 1: f"{LAYERS}.{top - 1}", top + 2: HEAD}
    own = {name: names.get(place, f"{LAYERS}.{place - 1}") for name, place in anatomy.places.items()}
    return {name: group for key, group in named.items() for name in own if own[name] == key}


def in_words(recipe: Recipe, run: Run | None, *, blocks: int | None) -> Iterator[tuple[str, str]]:
    """Yields what `layers` of `recipe` makes of a model of so many blocks, each under its name; None: not known yet."""
    settings = recipe.layers
    if settings is None:
        return
    if settings.freeze is not None:
        yield "frozen", _frozen_in_words(settings, blocks)
    if settings.reinitialise is not None:
        number = f"{settings.reinitialise} of {blocks}" if blocks else f"{settings.reinitialise}"
        yield "random", f"the top {number} blocks, and what the body has above them"
    groups = layer_groups(recipe, run, blocks=blocks) if run is not None else []
    if groups:
        yield "peak rates", ", ".join(f"{group.label} {group.peak:.3g}" for group in groups) + _rest(settings, blocks)
    if settings.unfreeze is not None and run is not None and blocks is not None:
        yield "unfrozen", _unfrozen_in_words(groups, run)
    elif settings.unfreeze is not None:
        yield "unfrozen", f"the head first, then a block every {settings.unfreeze.every} from the top down"


def _frozen_in_words(settings: LayerSettings, blocks: int | None) -> str:
    if isinstance(settings.freeze, tuple):
        return f"what has {listed(settings.freeze)} in its name"
    if isinstance(settings.freeze, int):
        of = f" of {blocks}" if blocks else ""
        return f"embeddings and the lowest {settings.freeze}{of} block{'s' * ((blocks or settings.freeze) > 1)}"
    return "all but the head" if settings.freeze == "body" else "embeddings"


def _rest(settings: LayerSettings, blocks: int | None) -> str:
    if settings.rate_decay is not None and blocks is None:
        return f", the top block the recipe's, each below {settings.rate_decay:g} times that of the one above"
    return ""


def _unfrozen_in_words(groups: Iterable[LayerGroup], run: Run) -> str:
    within = [f"{group.label} after update {group.start:,}" for group in groups if 0 < group.start < run.total_steps]
    never = [group.label for group in groups if group.start >= run.total_steps]
    rest = f"; not before the run ends: {', '.join(never)}" if never else ""
    return ", ".join(["the head first", *within]) + rest
