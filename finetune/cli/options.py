"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from finetune.shipped import find_recipe

RecipeFile = Annotated[
    Path,
    typer.Argument(
        parser=find_recipe,
        metavar="RECIPE",
        help="The recipe: a YAML file, or the name of one that comes with the package, such as minilm_reviews.",
    ),
]

TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run the code that comes with the model; no recipe can ask for it.")
]
