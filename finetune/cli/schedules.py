"""`finetune schedules`: the catalogue, its pictures, and a schedule fitted to a run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finetune.cli.naming import naming_options
from finetune.cli.options import AllowPlugins
from finetune.errors import RecordError, SettingError
from finetune.untrusted import visible

if TYPE_CHECKING:
    from finetune.figures import Curve
    from finetune.schedules import Run, Schedule

app = typer.Typer(help="List, show, draw and fit schedules.", no_args_is_help=True)

EXAMPLES: dict[str, dict[str, Any]] = {
    "step": {"gamma": 0.5, "every": "20%"},
    "multistep": {"gamma": 0.3},
    "cosine_restarts": {"first": "20%", "growth": 2.0, "decay": 0.8},
    "exponential": {"final": 0.05},
    "cyclic": {"mode": "triangular2"},
    "wsd": {"cooldown": "30%"},
    "plateau": {"gamma": 0.5},
    "piecewise": {"points": [["0%", 0.2], ["15%", 1.0], ["50%", 0.5], ["80%", 0.4], ["100%", 0.0]]},
    "product": {"of": [{"name": "cosine", "warmup": "10%"}, {"name": "step", "gamma": 0.6, "every": "25%"}]},
    "phases": {
        "phases": [
            {"schedule": {"name": "linear", "warmup": "30%"}, "duration": "30%"},
            {"schedule": "constant", "duration": "30%", "peak": 0.6},
            {"schedule": "cosine", "peak": 0.6},
        ]
    },
}
"""Settings that show what a schedule is, where its defaults don't."""

PLATEAU_FALLS = (0.45, 0.65, 0.85)


@app.command("list")
def list_schedules() -> None:
    """List the schedules with their formulas."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from finetune.schedules import SCHEDULES

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("name", no_wrap=True)
    table.add_column("factor of the peak rate, after the warmup")
    for name, schedule in SCHEDULES.items():
        table.add_row(name, schedule.formula)
    console = Console()
    console.print(table)
    for line in (
        "",
        "t: updates made, of T in the run and W in the warmup. τ = t − W, p = τ/(T − W). m: the floor.",
        "finetune schedules show NAME: its settings and its paper. finetune schedules plot NAME: its picture.",
    ):
        console.print(line, markup=False, highlight=False)


@app.command()
def show(name: Annotated[str, typer.Argument(metavar="NAME", help="The name of a schedule.")]) -> None:
    """Show a schedule's formula, settings, defaults and source."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from finetune.errors import did_you_mean
    from finetune.schedules import SCHEDULES

    if name not in SCHEDULES:
        raise SettingError("NAME", f'"{name}" is not one of {", ".join(SCHEDULES)}{did_you_mean(name, SCHEDULES)}')
    schedule = SCHEDULES[name]
    console = Console()
    for line in (f"{name}: {(schedule.__doc__ or '').strip()}", "", f"  {schedule.formula}", ""):
        console.print(line, markup=False, highlight=False)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for heading in ("setting", "default", "what it is"):
        table.add_column(heading, no_wrap=heading != "what it is")
    for field in dataclasses.fields(schedule):
        table.add_row(field.name, _shown(field.default), field.metadata.get("about", ""))
    console.print(table)
    if schedule.source:
        console.print(f"\nFrom: {schedule.source}", markup=False, highlight=False)


@app.command()
def plot(
    specs: Annotated[
        list[str] | None,
        typer.Argument(metavar="SPEC", help='A recipe, or a schedule: cosine, "wsd cooldown=30% shape=linear".'),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Draw the whole catalogue, a panel each.")] = False,
    updates: Annotated[int, typer.Option(help="The length of the run in updates.")] = 1000,
    epochs: Annotated[int, typer.Option(help="How many epochs that is, for durations in epochs.")] = 4,
    peak: Annotated[float, typer.Option(help="The peak rate, for floors that are absolute rates.")] = 1e-3,
    output: Annotated[
        Path | None, typer.Option(help="A .png, .svg or .html file; without it, the terminal is drawn on.")
    ] = None,
    allow_plugins: AllowPlugins = False,
) -> None:
    """Draw schedules: on the terminal, or into a picture or a page."""
    from rich.console import Console

    from finetune.figures import check_suffix, draw, draw_panels, print_curves, save
    from finetune.schedules import SCHEDULES, Run, make_schedule

    if every == bool(specs):
        raise SettingError("SPEC", "give one or more schedules, or --all for every one of them")
    if updates < 1 or epochs < 1:
        raise SettingError("--updates" if updates < 1 else "--epochs", "must be 1 or more")
    if output is not None:
        with naming_options("output"):
            check_suffix(output)
    run = Run(total_steps=updates, updates_per_epoch=-(-updates // epochs))
    if every:
        chosen = {name: make_schedule(name, **_example(name)) for name in SCHEDULES}
    else:
        chosen = {spec: _read(spec, allow_plugins=allow_plugins) for spec in specs or []}
    curves = [_curve(label, schedule, run, peak) for label, schedule in chosen.items()]
    if output is None:
        print_curves(curves, Console(), x_title="update", y_title="factor of the peak rate")
        return
    drawing = draw_panels if every else draw
    title = f"Learning-rate schedules over {updates:,} updates"
    with naming_options("output"):
        save(drawing(curves, title=title, x_title="update", y_title="factor of the peak rate"), output)
    typer.echo(f"{output}: written")


def _read(spec: str, *, allow_plugins: bool) -> Schedule:
    from finetune.recipe import read_schedule

    try:
        return read_schedule(spec, allow_plugins=allow_plugins)
    except SettingError as error:
        problems = (str(each).removeprefix(f"{spec}.").removeprefix(f"{spec}: ") for each in error.all)
        raise SettingError(spec, "; ".join(problems)) from error


def _example(name: str) -> dict[str, Any]:
    from finetune.schedules import SCHEDULES, Warmed

    kind = SCHEDULES[name]
    warmed = issubclass(kind, Warmed) and name not in ("cyclic", "one_cycle")
    return ({"warmup": "10%"} if warmed else {}) | EXAMPLES.get(name, {})


def _curve(label: str, schedule: Schedule, run: Run, peak: float) -> Curve:
    import numpy as np

    from finetune.figures import Curve
    from finetune.schedules import Plateau

    steps = np.arange(run.total_steps + 1)
    try:
        if isinstance(schedule, Plateau):
            falls = tuple(int(share * run.total_steps) for share in PLATEAU_FALLS)
            return Curve(label, steps.tolist(), schedule.after(falls, run, peak=peak)(steps).tolist())
        return Curve(label, steps.tolist(), schedule.over(run, peak=peak)(steps).tolist())
    except SettingError as error:
        raise SettingError(label, str(error)) from error


@app.command()
def refine(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The directory of a finished run.")],
    smoothing: Annotated[str, typer.Option(help="The length of the median filter over the gradient norms.")] = "10%",
    exponent: Annotated[float | None, typer.Option(help="2 for sgd and 1 for all others, unless given.")] = None,
    tolerance: Annotated[float, typer.Option(help="How far the lines may be from the fitted factors.")] = 0.01,
    output: Annotated[Path | None, typer.Option(help="A .yaml file; without it, the fragment is printed.")] = None,
) -> None:
    """Fit a schedule to the gradient norms of a run (arXiv 2310.07831). It's written as a fragment of a recipe."""
    import yaml

    from finetune.evaluation.record import MOST, read_history, write_atomically
    from finetune.evaluation.runs import read_run
    from finetune.schedules import fitted, refined_factors

    record = read_run(run).record
    norms = [row["gradient_norm"] for row in read_history(run) if "gradient_norm" in row]
    if not all(isinstance(norm, int | float) and 1 / MOST < norm < MOST for norm in norms):
        raise RecordError(f"{run}: a gradient norm is no finite number above 0; refine a run that did not diverge")
    if exponent is None:
        exponent = 2.0 if record.recipe["optimizer"]["name"] == "sgd" else 1.0
    factors = refined_factors(norms, smoothing=smoothing, exponent=exponent)
    schedule = fitted(factors.tolist(), tolerance=tolerance)
    made_under = _in_a_comment(str(record.schedule.settings["name"]))
    text = "\n".join(
        [
            f"# Fitted to the {len(norms)} gradient norms of {_in_a_comment(run.name)}, made under {made_under}",
            f"# (Defazio et al. 2023, arXiv 2310.07831; smoothing {smoothing}, exponent {exponent:g}).",
            "# It says which shape would have suited that run: try it beside others before trusting it.",
            yaml.safe_dump({"schedule": schedule.to_dict()}, sort_keys=False, default_flow_style=None, width=100),
        ]
    )
    if output is None:
        typer.echo(text, nl=False)
        return
    write_atomically(output, lambda path: path.write_text(text, encoding="utf-8"))
    typer.echo(f"{output}: written, {len(schedule.points)} points; use it as base: {output.name}")


def _in_a_comment(text: str) -> str:
    return visible(" ".join(text.split()))


def _shown(default: Any) -> str:
    if default is None:
        return "null"
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple):
        return f"[{', '.join(map(_shown, default))}]"
    return f"{default:g}" if isinstance(default, float) else str(default)
