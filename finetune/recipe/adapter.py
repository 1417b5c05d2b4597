"""What a recipe says of an adapter: a few weights that are trained in place of a pretrained model's own."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

ALL_LINEAR = "all-linear"

PositiveNumber = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Adapter(BaseModel):
    """LoRA (Hu et al. 2021, arXiv 2106.09685): W + s·B·A in place of a frozen weight W, of shape (out, in).

    A, of shape (rank, in), is drawn at random, and B, of shape (out, rank), begins at 0. The scale s is alpha / rank;
    with `rslora` alpha / √rank (Kalajdzievski 2023, arXiv 2312.03732). `dropout`: of what A is given. `targets`: the
    linear layers that have one, by their names or the ends of these, as in query; "all-linear" for all of the model's
    body; null for those that PEFT knows for the architecture, or else all. `dora`: each row of the sum has a length of
    its own that is learned (Liu et al. 2024, arXiv 2402.09353). `b_rate`: the peak rate of B over that of A and of the
    head (LoRA+, Hayou et al. 2024, arXiv 2402.12354). `merge`: whether the model that is kept at the end has its
    weights added up, as an ordinary one; or else only what was trained is kept, in PEFT's files.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Literal["lora"] = "lora"
    rank: Annotated[int, Field(gt=0, lt=2**16)] = 8
    alpha: PositiveNumber = 16.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)] | None = None
    rslora: bool = False
    dora: bool = False
    b_rate: PositiveNumber | None = None
    merge: bool = True

    def describe(self) -> str:
        """Returns the settings in words."""
        kind = " + ".join(word for word, on in (("rsLoRA", self.rslora), ("DoRA", self.dora)) if on) or "LoRA"
        rate = "" if self.b_rate is None else f", B at {self.b_rate:g} times the rate of A"
        dropout = f", dropout {self.dropout:g}" if self.dropout else ""
        return f"{kind}, rank {self.rank}, alpha {self.alpha:g}{dropout}{rate}"
