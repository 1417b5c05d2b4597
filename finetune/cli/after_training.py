"""The commands that take a run that is over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from finetune.cli.naming import naming_options
from finetune.cli.options import AllowPlugins, AsJson, TrustRemoteCode
from finetune.errors import RecordError, SettingError, counted, did_you_mean, did_you_mean_path

if TYPE_CHECKING:
    from finetune.inference.finished import FinishedRun
    from finetune.inference.predictor import Predictor
    from finetune.training.precision import Precision

PRECISIONS = ("fp32", "bf16", "fp16", "auto")

Run = Annotated[Path, typer.Argument(metavar="RUN", help="The directory of a run.")]
Files = Annotated[
    list[str], typer.Argument(metavar="FILE", help="csv, tsv, json, jsonl or parquet; - is standard input.")
]
PipedFormat = Annotated[str, typer.Option("--format", metavar="jsonl|csv|…", help="What - is.")]
BatchSize = Annotated[int | None, typer.Option(help="Examples at a time; by default the run's evaluation.batch_size.")]
Format = Annotated[str, typer.Option(metavar="|".join(PRECISIONS), help="In what format the model computes.")]


def predict(
    run: Run,
    files: Files,
    output: Annotated[
        Path | None, typer.Option(help="A .csv, .jsonl or .parquet file; JSON lines on standard output, if not given.")
    ] = None,
    piped_format: PipedFormat = "jsonl",
    only_predictions: Annotated[
        bool, typer.Option("--only-predictions", help="Leave the data's own columns out.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output, if it exists.")] = False,
    batch_size: BatchSize = None,
    precision: Format = "fp32",
    allow_plugins: AllowPlugins = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Have a run's model predict rows of files. Each row has its predictions beside its own columns."""
    from finetune.inference.tables import check_output

    if output is not None:
        check_output(output, overwrite=overwrite)
    finished = _finished(run, allow_plugins=allow_plugins)
    load = _loader(finished, batch_size, precision, trust_remote_code=trust_remote_code)

    from finetune.cli.prediction import predict as predict_files

    predict_files(
        finished,
        files,
        load,
        piped_format=piped_format,
        output=output,
        keep_columns=not only_predictions,
    )


def evaluate(
    run: Run,
    files: Files,
    metrics: Annotated[str | None, typer.Option(metavar="NAME,…", help="Other metrics than the run's own.")] = None,
    as_json: AsJson = False,
    piped_format: PipedFormat = "jsonl",
    batch_size: BatchSize = None,
    precision: Format = "fp32",
    allow_plugins: AllowPlugins = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Score a run's model on labelled files of later. What it scored on its own test split stands beside that."""
    finished = _finished(run, allow_plugins=allow_plugins)
    load = _loader(finished, batch_size, precision, trust_remote_code=trust_remote_code)

    from finetune.cli.evaluation import evaluate_files

    evaluate_files(
        finished,
        files,
        load,
        piped_format=piped_format,
        metrics=metrics,
        as_json=as_json,
        trust_remote_code=trust_remote_code,
    )


def push(
    run: Run,
    repository: Annotated[str, typer.Argument(metavar="REPO", help="The repository on the Hub: user/model.")],
    private: Annotated[bool, typer.Option("--private", help="Make it private, where it is made.")] = False,
    with_record: Annotated[
        bool, typer.Option("--with-record", help="Add record.json and recipe.yaml, which name paths and the machine.")
    ] = False,
    allow_plugins: AllowPlugins = False,
) -> None:
    """Put a run's model and its card on the Hugging Face Hub. They go there in one commit, and never data."""
    from finetune.inference.publishing import push as push_model

    finished = _finished(run, allow_plugins=allow_plugins)
    typer.echo(push_model(finished, repository, private=private, with_record=with_record))


def export(
    run: Run,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to make.")],
    check: Annotated[
        Path | None, typer.Option(help="Rows to check it on, in place of the run's validation split.")
    ] = None,
    tolerance: Annotated[float, typer.Option(help="The largest difference in an output.")] = 1e-4,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder, if it exists.")] = False,
    batch_size: BatchSize = None,
    allow_plugins: AllowPlugins = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Write a run's model as ONNX, checked against the model itself. It takes batches and texts of any length."""
    finished = _finished(run, allow_plugins=allow_plugins)
    load = _loader(finished, batch_size, "fp32", trust_remote_code=trust_remote_code)

    from finetune.inference import onnx_export

    onnx_export.check_folder(folder, overwrite=overwrite)
    onnx_export.check_task(finished)
    rows = onnx_export.checking_rows(finished) if check is None else onnx_export.rows_of(check)
    made = onnx_export.export(load(), rows, folder, tolerance=tolerance)
    typer.echo(f"{made.path}: {', '.join(made.inputs)} ▶ {', '.join(made.outputs)}")
    typer.echo(f"over {counted(made.examples, 'example')} it differs from the model by {made.difference:.2e} at most")


def _finished(run: Path, *, allow_plugins: bool) -> FinishedRun:
    """Returns the run in the directory `run`; raises RecordError also where there is no such directory."""
    from finetune.inference.finished import read_finished

    if not run.is_dir():
        what = "is a file; give the directory of a run"
        raise RecordError(f"{run}: {what if run.exists() else f'no such directory{did_you_mean_path(run)}'}")
    return read_finished(run, allow_plugins=allow_plugins)


def _loader(
    run: FinishedRun, batch_size: int | None, precision: str, *, trust_remote_code: bool
) -> Callable[[], Predictor]:
    """Loads the libraries, and returns what then loads the model of `run`."""
    if precision not in PRECISIONS:
        choices = f"{', '.join(PRECISIONS)}{did_you_mean(precision, PRECISIONS)}"
        raise SettingError("--precision", f'"{precision}" is not one of {choices}')
    from finetune.cli.loading import loading

    with loading():
        from finetune.inference.predictor import load_predictor

    def load() -> Predictor:
        with naming_options("batch-size", "precision"):
            return load_predictor(
                run,
                batch_size=batch_size,
                precision=cast("Precision", precision),
                trust_remote_code=trust_remote_code,
            )

    return load


def add_commands(app: typer.Typer) -> None:
    """Makes the commands part of `app`."""
    for command in (predict, evaluate, push, export):
        app.command()(command)
