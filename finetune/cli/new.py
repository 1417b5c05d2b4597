"""finetune new: a recipe for data at hand, by questions or by options."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finetune.cli.naming import naming_options
from finetune.errors import SettingError, did_you_mean
from finetune.untrusted import presentable

if TYPE_CHECKING:
    from finetune.proposing import Draft

KINDS = "csv, tsv, json, jsonl or parquet"


def new(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe to write, such as reviews.yaml.")],
    data: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help=f"Your data, a {KINDS} file; may be given again.")
    ] = None,
    validation: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="The validation split, if it's in a file of its own.")
    ] = None,
    test: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="The test split, if it's in a file of its own.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="A model's folder, or its repository on the Hub.")
    ] = None,
    task: Annotated[
        str | None, typer.Option(metavar="NAME", help="The task, where the data's columns don't tell it.")
    ] = None,
    text: Annotated[str | None, typer.Option(metavar="COLUMN", help="The column of texts.")] = None,
    label: Annotated[str | None, typer.Option(metavar="COLUMN", help="The column of labels.")] = None,
    schedule: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="The schedule; given again, others to be compared with it by a study."),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=2,
            max=100,
            help="On how many seeds schedules are compared; by default the fewest that can show a difference at 5%.",
        ),
    ] = None,
    optimizer: Annotated[str, typer.Option(metavar="NAME", help="The optimizer.")] = "adamw",
    learning_rate: Annotated[float | None, typer.Option(metavar="RATE", help="The peak rate.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Write over a recipe that is there.")] = False,
) -> None:
    """Write a recipe for your data, and check that it runs. It looks at the data, and asks for what isn't given."""
    from finetune.cli.loading import loading

    with loading():
        from finetune.proposing import Wishes, draft_recipe

    if recipe.suffix not in (".yaml", ".yml"):
        raise SettingError("RECIPE", f"{recipe} is to be a recipe: give a name that ends in .yaml")
    if recipe.exists() and not replace:
        raise SettingError("RECIPE", f"{recipe} is there already: give another name, or --replace")
    if not recipe.absolute().parent.is_dir():
        raise SettingError("RECIPE", f"{recipe.absolute().parent} is no folder: make it first")
    _check(optimizer, learning_rate)
    files = {"train": data or [Path(_asked("--data", f"Data, a {KINDS} file"))]}
    files |= {name: those for name, those in (("validation", validation), ("test", test)) if those}
    if test and not validation:
        raise SettingError("--validation", "missing: give it too, or let all splits be made of --data")
    wishes = Wishes(
        files=files,
        model=model or _asked("--model", "Model, a folder or a repository such as google-bert/bert-base-uncased"),
        task=task,
        text=text,
        label=label,
        compare=schedule or ["cosine"],
        optimizer=optimizer,
        learning_rate=learning_rate,
        seeds=seeds or _fewest_seeds(schedule or []),
    )
    with naming_options(name="schedule"):
        draft = draft_recipe(recipe.absolute(), wishes)
    for path in draft.tables:
        if path.exists() and not replace:
            raise SettingError("RECIPE", f"{path} is there already: give another name, or --replace")
    cautions = _write(draft, recipe)
    typer.echo(draft.text)
    for caution in cautions:
        typer.echo(f"caution: {presentable(caution)}")
    for path in draft.tables:
        typer.echo(f"{recipe.parent / path.relative_to(draft.path.parent)}: written")
    if wishes.folder is None:
        typer.echo(f"{wishes.model}: no folder of this name is here, so the model is to come from the Hub")
    typer.echo(f"{recipe}: written and checked")


def _check(optimizer: str, learning_rate: float | None) -> None:
    from finetune.recipe.merging import NAMED

    names = NAMED["optimizer"]
    if optimizer not in names:
        choices = f"{', '.join(names)}{did_you_mean(optimizer, names)}"
        raise SettingError("--optimizer", f'"{optimizer}" is not one of {choices}')
    if learning_rate is not None and not 0 < learning_rate < math.inf:
        raise SettingError("--learning-rate", f"{learning_rate:g} must be above 0, and finite")


def _fewest_seeds(schedules: Sequence[str]) -> int:
    """Returns how many seeds it takes to set the first of `schedules` against each of the others."""
    from finetune.evaluation.contrasts import fewest_seeds

    return fewest_seeds(max(1, len(schedules) - 1))


def _asked(option: str, question: str) -> str:
    if not sys.stdin.isatty():
        raise SettingError(option, "missing, and there is nobody to ask: give it")
    answer: str = typer.prompt(question)
    return answer


def _write(draft: Draft, recipe: Path) -> Sequence[str]:
    """Writes a draft, and returns what is doubtful in it; takes back what it wrote where the recipe doesn't run."""
    from finetune.cli.checking import outlook_of

    before = recipe.read_bytes() if recipe.exists() else None
    try:
        draft.write()
        return outlook_of(recipe).cautions
    except BaseException:
        _take_back(recipe, before, list(draft.tables))
        raise


def _take_back(recipe: Path, before: bytes | None, tables: Sequence[Path]) -> None:
    if before is None:
        recipe.unlink(missing_ok=True)
    else:
        recipe.write_bytes(before)
    for path in tables:
        with contextlib.suppress(OSError):  # it isn't there, or its folder held other files before
            path.unlink()
            path.parent.rmdir()
