"""The command line. Libraries are loaded by the command that needs them, so that `finetune --help` loads none."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TextIO, cast

import typer

from finetune.cli.after_training import add_commands
from finetune.cli.launching import launch
from finetune.cli.naming import naming_options
from finetune.cli.new import new
from finetune.cli.options import (
    AllowPlugins,
    AsJson,
    OnChange,
    Overrides,
    Quiet,
    RecipeFile,
    Repeat,
    Resume,
    TrustRemoteCode,
)
from finetune.cli.schedules import app as schedules_app
from finetune.cli.speech import complain, console_of, print_json
from finetune.cli.usage import UsageError, answer
from finetune.errors import FinetuneError, RunError, RunStopped, SettingError

if TYPE_CHECKING:
    from finetune.schedules.continuation import ChangePolicy

LOST = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
"""What a stream says that goes to a file where there is no more room."""

app = typer.Typer(
    help="Fine-tune pretrained models under any learning-rate schedule, and compare schedules with evidence.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(schedules_app, name="schedules")


def _show_version(asked: bool) -> None:  # noqa: FBT001 - typer's callback
    if asked:
        from importlib.metadata import version

        typer.echo(f"finetune-schedules {version('finetune-schedules')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def run(
    recipe: RecipeFile,
    overrides: Overrides = None,
    repeat: Repeat = False,
    resume: Resume = "auto",
    on_change: OnChange = "refuse",
    quiet: Quiet = False,
    as_json: AsJson = False,
    allow_plugins: AllowPlugins = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Train one recipe and record what came of it. For several processes, GPUs or machines: finetune launch RECIPE."""
    from finetune.recipe import is_study, load_recipe

    if is_study(recipe, overrides or []):
        if repeat or (resume, on_change) != ("auto", "refuse"):
            raise SettingError("--repeat, --resume, --on-change", "are for one run; a study goes on by itself")
        study(
            recipe,
            overrides,
            quiet=quiet,
            as_json=as_json,
            allow_plugins=allow_plugins,
            trust_remote_code=trust_remote_code,
        )
        return
    loaded = load_recipe(recipe, overrides or [], allow_plugins=allow_plugins)

    from finetune.training import Library, fine_tune, is_main_process, leave_together, run_directory

    console = console_of(quiet=quiet, as_json=as_json)
    library = Library(trust_remote_code=trust_remote_code)
    record = fine_tune(
        loaded,
        source=recipe,
        console=console,
        repeat=repeat,
        resume=Path(resume) if resume not in ("auto", "never") else cast("Literal['auto', 'never']", resume),
        on_change=cast("ChangePolicy", on_change),
        library=library,
    )
    leave_together()
    place = run_directory(loaded, source=recipe)
    if as_json and is_main_process():
        print_json({"run": str(place), "record": record.model_dump(mode="json")})
    if record.status == "diverged":
        if console.quiet and is_main_process():
            complain(f"{place}: diverged at update {record.diverged_at_step}; lower the peak rate")
        raise typer.Exit(1)


def study(
    recipe: RecipeFile,
    overrides: Overrides = None,
    engine: Annotated[
        str, typer.Option(metavar="local|ray", help="Where runs are made: on this machine, or on a Ray cluster.")
    ] = "local",
    workers: Annotated[
        str | None,
        typer.Option(
            metavar="N|auto",
            help="How many runs at once. local: 1 unless given, each with its share of threads and GPUs; auto finds it "
            "out by a few updates. ray: as many as the cluster has room for.",
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="ray: the cluster; that of RAY_ADDRESS or this machine unless given."),
    ] = None,
    cpus: Annotated[int | None, typer.Option(metavar="N", help="ray: CPUs, and threads, of each run; 1.")] = None,
    gpus: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="ray: the share of a GPU of each run, such as 0.25; 1 where there are any."),
    ] = None,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="ray: bring runs back from machines that don't share the output folder.")
    ] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Show which updates runs have in common, and make none.")
    ] = False,
    apart: Annotated[
        bool, typer.Option("--apart", help="Make every run's updates by itself; results are equal.")
    ] = False,
    share: Annotated[
        str | None,
        typer.Option(
            metavar="K/N",
            help="Make share K of N alone, beside other commands; one without it then concludes.",
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
    allow_plugins: AllowPlugins = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Train every combination of a study, and compare the runs. It goes on where it was left."""
    from finetune.recipe import load_study

    loaded = load_study(recipe, overrides or [], allow_plugins=allow_plugins)

    from finetune.cli.studies import number_of_workers, outcome_as_plain, share_of, show_outcome
    from finetune.study import plan_study, run_study
    from finetune.study.engines.registry import make_engine
    from finetune.training import is_main_process, leave_together
    from finetune.training.progress import say

    console = console_of(quiet=quiet, as_json=as_json)
    if share is not None:
        whole = loaded.count
        loaded = replace(loaded, share=share_of(share))
        say(console, f"share {share}: {loaded.count:,} of {whole:,} runs")
        if not loaded.count:
            return
    if plan:
        for line in plan_study(loaded, source=recipe):
            typer.echo(line)
        return
    options = {
        "workers": number_of_workers(workers),
        "address": address,
        "cpus": cpus,
        "gpus": gpus,
        "fetch": fetch or None,
    }
    with naming_options("engine", *options):
        outcome = run_study(
            loaded,
            source=recipe,
            console=console,
            engine=make_engine(engine, options),
            apart=apart,
            trust_remote_code=trust_remote_code,
        )
    leave_together()
    if as_json and is_main_process():
        print_json(outcome_as_plain(outcome))
    show_outcome(outcome, console)
    if outcome.failed:
        raise typer.Exit(1)


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUNS", help="Directories of runs, or that hold them.")],
    reference: Annotated[str | None, typer.Option(help="The schedule that the others are set against.")] = None,
    equivalence: Annotated[float | None, typer.Option(help="The least difference that matters.")] = None,
    target: Annotated[float | None, typer.Option(help="The validation score that convergence is timed to.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the report, a page that works offline.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write a row per run.")] = None,
    parquet: Annotated[Path | None, typer.Option(help="Write a row per run.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write what the terminal shows.")] = None,
    figures: Annotated[Path | None, typer.Option(help="Write the report's figures as SVG into this folder.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say what recorded runs show, and what they can't. What is asked is what their study declared, unless given."""
    from finetune.cli.comparison import Outputs, show_comparison
    from finetune.evaluation.analysis import Question

    outputs = Outputs(html=html, csv=csv, parquet=parquet, markdown=markdown, figures=figures)
    with naming_options("equivalence", "target"):
        question = Question(reference, equivalence, target)
    show_comparison(runs, question, outputs, as_json=as_json)


def check(
    recipe: RecipeFile,
    overrides: Overrides = None,
    as_json: AsJson = False,
    devices: Annotated[
        int | None, typer.Option(metavar="N", help="Estimate what each of N GPUs holds, by how a run is spread.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Say what fits on a GPU of this memory: 80GB, 24GiB.")
    ] = None,
    seconds_per_update: Annotated[
        float | None, typer.Option(metavar="S", help="Reckon GPU-hours; without it, as runs on record took.")
    ] = None,
    allow_plugins: AllowPlugins = False,
) -> None:
    """Say what a recipe will do, before it does it. Also what is doubtful in its data and settings."""
    from finetune.cli.loading import loading

    with loading():
        from finetune.cli.checking import check as check_recipe
        from finetune.cli.estimating import read_asked

    asked = read_asked(devices, memory, seconds_per_update)
    check_recipe(recipe, overrides or [], allow_plugins=allow_plugins, as_json=as_json, asked=asked)


def cooldown(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The directory of a run that is going on.")],
    duration: Annotated[str, typer.Option(help="How long: updates, a share of the run, or epochs.")] = "10%",
    shape: Annotated[str, typer.Option(help="linear, cosine, sqrt, square or mirror_cosine.")] = "sqrt",
    floor: Annotated[float, typer.Option(help="The fraction of the peak to end at.")] = 0.0,
) -> None:
    """Ask a run to cool its rate down now, and to end with it."""
    from finetune.training.cooldown import request_cooldown

    with naming_options("duration", "shape", "floor"):
        request_cooldown(run, duration=duration, shape=shape, floor=floor)
    typer.echo(f"{run}: asked; it takes notice within ten updates")


def lr_find(
    recipe: RecipeFile,
    overrides: Overrides = None,
    least: Annotated[float, typer.Option(help="The rate of the first update.")] = 1e-6,
    most: Annotated[float, typer.Option(help="The rate of the last update.")] = 1e-2,
    updates: Annotated[int, typer.Option(help="How many updates the rate takes to climb.")] = 200,
    seeds: Annotated[int, typer.Option(help="How often, with another seed each time.")] = 3,
    output: Annotated[Path | None, typer.Option(help="A picture (.png, .svg, .html) or the numbers (.json).")] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
    allow_plugins: AllowPlugins = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Search for a peak rate by a range test. The rate climbs, and the loss says where it falls fastest."""
    from finetune.cli.rate_search import check_output, show_search
    from finetune.recipe import load_recipe

    check_output(output)
    loaded = load_recipe(recipe, overrides or [], allow_plugins=allow_plugins)

    from finetune.training import find_rate, is_main_process, leave_together

    console = console_of(quiet=quiet, as_json=as_json)
    with naming_options("least", "most", "updates", "seeds", "output"):
        search = find_rate(
            loaded,
            least=least,
            most=most,
            updates=updates,
            seeds=seeds,
            console=console,
            trust_remote_code=trust_remote_code,
        )
        show_search(search, console, output)
    if as_json and is_main_process():
        print_json(search.to_dict())
    leave_together()


def schema() -> None:
    """Print the JSON schema of recipes, for editors."""
    from finetune.recipe.json_schema import recipe_schema

    print_json(recipe_schema())


for _command in (new, check, run, launch, study, compare, lr_find, cooldown, schema):
    app.command()(_command)
add_commands(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits.

    0 done, 1 a run that diverged, ran out of memory or lost a process, or standard output that can't be written,
    2 input that can't be used, 75 stopped and to be gone on with, 130 interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # whose encoding may lack the lines of a plot
            stream.reconfigure(errors="replace")
    try:
        code = app(args=arguments, prog_name="finetune", standalone_mode=False)
        sys.stdout.flush()  # here, where it can still be said that this failed
        sys.exit(code or 0)
    except UsageError as error:
        answer(error)
        sys.exit(2)
    except typer.Abort:
        print()  # the shell's prompt is not to stand behind a question that was left unanswered
        sys.exit(130)
    except RunStopped as stopped:
        from finetune.launching.exit_codes import STOPPED
        from finetune.training import leave_together

        _tell(stopped)
        leave_together()
        sys.exit(STOPPED)
    except RunError as error:
        _tell(error)
        sys.exit(1)
    except OSError as error:
        if error.filename is not None or error.errno not in (*LOST, errno.EPIPE):
            raise
        _forsake(sys.stdout)
        if error.errno != errno.EPIPE:  # as of `head`, which has read enough
            complain(f"standard output: can't be written: {error.strerror}")
        sys.exit(1)
    except FinetuneError as error:
        _tell(error)
        sys.exit(2)


def _forsake(stream: TextIO) -> None:
    """Has what is left in `stream` go nowhere, lest the interpreter tries once more as it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _tell(what: BaseException) -> None:
    """Prints why the command ends, of what all processes know on one of them, and tells the others of the rest."""
    if os.environ.get("RANK", "0") == "0" or isinstance(what, RunError):
        complain(str(what))
    if isinstance(what, FinetuneError) and os.environ.get("WORLD_SIZE", "1") != "1":
        from finetune.training.meeting import tell_others

        tell_others(what)
