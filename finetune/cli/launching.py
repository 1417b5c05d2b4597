"""`finetune launch`: a recipe on several processes, GPUs or machines, by the accelerate command that it prints."""

from __future__ import annotations

from typing import Annotated

import typer

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

DEFAULT_TIMEOUT = 300


def launch(
    recipe: RecipeFile,
    overrides: Overrides = None,
    on: Annotated[
        str | None,
        typer.Option(
            "--on",
            metavar="multi_gpu|fsdp2|…|PATH",
            help="A file of accelerate_configs by its name, or one of your own by its path; by default all GPUs, or "
            "the CPU where there is none.",
        ),
    ] = None,
    processes: Annotated[
        int | None, typer.Option(help="How many, on each machine; by default one for each GPU that can be seen.")
    ] = None,
    machines: Annotated[int | None, typer.Option(help="How many; the same command is given on each.")] = None,
    rank: Annotated[int | None, typer.Option(help="The number of this machine, from 0.")] = None,
    rendezvous: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Where machines meet: an address of number 0, and a free port there."),
    ] = None,
    join_timeout: Annotated[
        int, typer.Option(metavar="SECONDS", help="How long machines have to come together.")
    ] = DEFAULT_TIMEOUT,
    max_restarts: Annotated[
        int, typer.Option(help="How often a machine whose processes died starts them anew, from the last checkpoint.")
    ] = 0,
    repeat: Repeat = False,
    resume: Resume = "auto",
    on_change: OnChange = "refuse",
    quiet: Quiet = False,
    as_json: AsJson = False,
    allow_plugins: AllowPlugins = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Train a recipe on several processes, GPUs or machines. The accelerate command that does it is printed first."""
    from finetune import launching
    from finetune.recipe import is_study, load_recipe, load_study

    mode = None if on is None else launching.find_mode(on)
    load = load_study if is_study(recipe, overrides or []) else load_recipe
    load(recipe, overrides or [], allow_plugins=allow_plugins)
    if mode is None:
        on = launching.default_mode(launching.visible_gpus(), machines=machines or 1)
        mode = launching.find_mode(on)
    nodes = launching.nodes_of(
        mode, machines=machines, rank=rank, rendezvous=rendezvous, join_timeout=join_timeout, max_restarts=max_restarts
    )
    count = launching.number_of_processes(mode, processes, gpus=0 if mode.uses_cpu else launching.visible_gpus())
    launching.check_config(mode)
    options = {
        "--repeat": repeat,
        "--quiet": quiet,
        "--json": as_json,
        "--allow-plugins": allow_plugins,
        "--trust-remote-code": trust_remote_code,
    }
    arguments = [
        *(str(recipe), *(overrides or ())),
        *(name for name, is_given in options.items() if is_given),
        *(("--resume", resume) if resume != "auto" else ()),
        *(("--on-change", on_change) if on_change != "refuse" else ()),
    ]
    command = launching.build_launch(mode, processes=count, nodes=launching.located(nodes), arguments=arguments)
    if not (quiet or as_json):
        typer.echo(str(command))
    launching.check_rendezvous(nodes)
    code = launching.run_launch(command)
    if code:
        raise typer.Exit(code)
