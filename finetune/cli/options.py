"""Arguments and options that several commands have."""

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
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Settings in place of the recipe's: schedule=step schedule.gamma=0.5"),
]
AllowPlugins = Annotated[bool, typer.Option("--allow-plugins", help="Run the Python files that the recipe names.")]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run the code that comes with the model; no recipe can ask for it.")
]
Repeat = Annotated[bool, typer.Option("--repeat", help="Run again even if the run is already recorded.")]
Resume = Annotated[
    str,
    typer.Option(
        metavar="auto|never|PATH",
        help="Go on from the newest checkpoint, if there is one; begin anew; or go on from another run's directory or "
        "checkpoint.",
    ),
]
OnChange = Annotated[
    str,
    typer.Option(
        metavar="refuse|keep|extend|restart|branch",
        help="With --resume PATH, how another schedule, length or peak rate takes over.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but what fails.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs to read.")]
