"""The `layers:` block: which layers are trained, at which share of the peak rate, and from when on."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, PlainSerializer, PlainValidator, model_validator

from finetune.errors import SettingError, did_you_mean
from finetune.recipe.blocks import STRICT, Interval, check_pattern
from finetune.schedules.durations import rescale_duration

PARTS = ("embeddings", "body")
_FREEZE = "embeddings, body, the number of the lowest blocks, or a list of regular expressions"


def check_freeze(value: Any) -> Any:
    if isinstance(value, str) and value in PARTS:
        return value
    if isinstance(value, str):
        hint = did_you_mean(value, PARTS) or f'; ["{value}"] freezes all parameters with that in their names'
        raise SettingError("freeze", f'"{value}" is not one of {_FREEZE}{hint}')
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 < value < 2**31:
            raise SettingError("freeze", f"{value} is no number of blocks: give embeddings for none but those")
        return value
    if isinstance(value, list | tuple) and value and all(isinstance(pattern, str) for pattern in value):
        return tuple(map(check_pattern, value))
    shown = "the block" if isinstance(value, dict) else "the list" if isinstance(value, list | tuple) else repr(value)
    raise SettingError("freeze", f"{shown} is not one of {_FREEZE}")


def _off_at(neutral: float) -> AfterValidator:
    """A setting that changes nothing where it is `neutral` leaves recipes the runs that they had without it."""
    return AfterValidator(lambda value: None if value == neutral else value)


Freeze = Annotated[
    str | int | tuple[str, ...],
    PlainValidator(check_freeze),
    PlainSerializer(lambda value: list(value) if isinstance(value, tuple) else value),
]


class Unfreezing(BaseModel):
    """Gradual unfreezing (Howard and Ruder 2018, arXiv 1801.06146): the head is trained from the first update on, and
    `every` so often the next block from the top down, the embeddings last."""

    model_config = STRICT

    every: Interval


class LayerSettings(BaseModel):
    """What sets the layers of a model apart; `finetune.training.layers` says which parameters are in which.

    `freeze`: what isn't trained: "embeddings"; n, those and the lowest n blocks; "body", all but the head; or a list of
    regular expressions, all parameters in whose names one of them is found.
    `head_rate`: the peak of the head, as a multiple of the recipe's.
    `rate_decay`: the peak of a block as a share of that of the block above, of which the top one has the recipe's; the
    embeddings are below the lowest block (Howard and Ruder 2018; Clark et al. 2020, arXiv 2003.10555).
    `unfreeze`: trains the head first, and then more and more of the body.
    `reinitialise`: how many of the top blocks start at random, with what the body has above them (Zhang et al. 2021,
    arXiv 2006.05987).
    """

    model_config = STRICT

    freeze: Freeze | None = None
    head_rate: Annotated[float, Field(gt=0, allow_inf_nan=False), _off_at(1.0)] | None = None
    rate_decay: Annotated[float, Field(gt=0, le=1), _off_at(1.0)] | None = None
    unfreeze: Unfreezing | None = None
    reinitialise: Annotated[int, Field(ge=0, lt=2**31), _off_at(0)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> LayerSettings:
        for name in ("rate_decay", "unfreeze", "reinitialise"):
            if self.freeze == "body" and getattr(self, name) is not None:
                raise SettingError(name, "is about the body, none of which freeze: body trains; leave out one of them")
        return self

    @property
    def goes_by_depth(self) -> bool:
        """Whether each block is trained at a rate of its own."""
        return self.rate_decay is not None or self.unfreeze is not None

    @property
    def sets_rates(self) -> bool:
        """Whether not all that is trained follows the recipe's peak."""
        return self.head_rate is not None or self.goes_by_depth

    @property
    def needs_blocks(self) -> bool:
        """Whether the model has to have numbered blocks."""
        by_depth = self.freeze == "embeddings" or isinstance(self.freeze, int)
        return by_depth or self.goes_by_depth or self.reinitialise is not None

    def rescaled(self, by: Fraction) -> LayerSettings:
        """Returns the settings of a run `by` times as long; raises SettingError for less than an update."""
        if self.unfreeze is None:
            return self
        every = rescale_duration(self.unfreeze.every, by, field="layers.unfreeze.every")
        return self.model_copy(update={"unfreeze": Unfreezing(every=every)})

    def at_one_rate(self) -> LayerSettings:
        """Returns the same layers, all that are trained from the start on at one rate."""
        return self.model_copy(update={"head_rate": None, "rate_decay": None, "unfreeze": None})
