"""A run's model as ONNX, checked against the model itself before it is there."""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from finetune.data import Rows, load_files, load_hub
from finetune.errors import DataError, ModelError, RunError, SettingError
from finetune.inference.finished import FinishedRun
from finetune.tasks.columns import GIVEN
from finetune.tasks.pretrained import quiet_transformers
from finetune.training.whole_folders import replace_folder

if TYPE_CHECKING:
    import onnxruntime

    from finetune.inference.predictor import Predictor
    from finetune.tasks.base import Split

MODEL = "model.onnx"
VALIDATION = "validation"
LEFT_OUT = (".safetensors", ".bin", ".md", ".svg")
"""The suffixes of what a folder of the model holds that the exported one needs no more."""
MOST_CHECKED = 1000
EXTRA = "pip install 'finetune-schedules[onnx]'"


@dataclass(frozen=True)
class Exported:
    """`difference`: the largest between an output of the exported model and of the model itself, over `examples`."""

    path: Path
    inputs: Sequence[str]
    outputs: Sequence[str]
    examples: int
    difference: float


class _Plain(torch.nn.Module):
    """A model that takes tensors in the order of `inputs` and returns tensors alone."""

    def __init__(self, model: torch.nn.Module, inputs: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.inputs = tuple(inputs)

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Returns the tensors among the model's outputs, in its order."""
        return tuple(_tensors(self.model(**dict(zip(self.inputs, tensors, strict=True)))).values())


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Raises SettingError where `folder` is a file, or there and not to be replaced, or libraries are missing."""
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise SettingError("export", f"needs {', '.join(missing)}: {EXTRA}")
    if folder.is_file():
        raise SettingError("DIR", f"{folder} is a file; give a folder")
    if folder.exists() and not overwrite:
        raise SettingError("DIR", f"{folder} exists; pass --overwrite to replace it, or give another name")


def check_task(run: FinishedRun) -> None:
    """Raises ModelError for a model of anything but texts, whose inputs have other axes."""
    if run.task.longest is None:
        raise ModelError(f"{run.path}: only models of texts are exported, and this one's task is {run.task.name}")


def checking_rows(run: FinishedRun) -> Rows:
    """Returns rows of the run's validation split, `MOST_CHECKED` at most.

    Raises DataError where it isn't there any more, with the remedy.
    """
    data = run.record.recipe["data"]
    try:
        if data.get("hub"):
            rows = load_hub(
                data["hub"],
                configuration=data.get("config"),
                revision=data.get("revision"),
                splits={VALIDATION: data["splits"][VALIDATION]},
            )[VALIDATION]
        else:
            rows = load_files({VALIDATION: [Path(path) for path in data["files"][VALIDATION]]})[VALIDATION]
    except DataError as error:
        raise DataError(f"{error}; to check the exported model on other rows, give their file by --check") from error
    return next(rows.parts(MOST_CHECKED))


def rows_of(path: Path) -> Rows:
    """Returns rows of a file, `MOST_CHECKED` at most; raises DataError."""
    return next(load_files({GIVEN: [path]})[GIVEN].parts(MOST_CHECKED))


def export(predictor: Predictor, rows: Rows, folder: Path, *, tolerance: float) -> Exported:
    """Writes the model as ONNX, with its tokenizer and configuration, to `folder`, in place of what was there.

    The first two axes of inputs, examples and tokens, may have any length. What it computes for `rows` may differ from
    what the model does by `tolerance` at most, in any output; else RunError is raised, and nothing is written. Raises
    ModelError where the exporter can't take the model.
    """
    split = predictor.encode(predictor.run.task.read_for(rows, predictor.run.classes, labelled=False), "checked")
    found: list[Exported] = []

    def write(aside: Path) -> None:
        inputs, outputs = _write_onnx(predictor, _sample(predictor, split), aside / MODEL)
        difference = _difference(predictor, split, aside / MODEL)
        if not difference <= tolerance:
            raise RunError(
                f"{folder}: the exported model differs by {difference:.2e} from the model itself, and {tolerance:g} is "
                "the most that is taken for rounding; nothing was written"
            )
        for path in sorted(predictor.run.model.iterdir()):
            if path.is_file() and path.suffix not in LEFT_OUT:
                shutil.copy2(path, aside / path.name)
        found.append(Exported(folder / MODEL, inputs, outputs, len(split), difference))

    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        replace_folder(folder, write)
    except BaseException:
        shutil.rmtree(folder.with_name(f".{folder.name}.new"), ignore_errors=True)
        raise
    return found[0]


def _sample(predictor: Predictor, split: Split) -> dict[str, torch.Tensor]:
    """Returns what a model is given of the first examples; two, as an axis of length 1 is taken for a constant."""
    examples = [split[place % len(split)] for place in range(2)]
    return _given(predictor, examples)


def _given(predictor: Predictor, examples: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    batch = predictor.run.task.collator(predictor.processor)(examples)
    return {name: value.to(predictor.device) for name, value in batch.items() if name != "labels"}


def _write_onnx(
    predictor: Predictor, sample: Mapping[str, torch.Tensor], path: Path
) -> tuple[Sequence[str], Sequence[str]]:
    """Returns the names of the inputs and the outputs."""
    with torch.no_grad():
        outputs = list(_tensors(predictor.model(**sample)))
    examples, tokens = torch.export.Dim("examples"), torch.export.Dim("tokens")
    axes = tuple({0: examples, 1: tokens} if value.ndim == 2 else {0: examples} for value in sample.values())
    try:
        with _quiet_exporter(), quiet_transformers(), torch.no_grad():
            torch.onnx.export(
                _Plain(predictor.model, list(sample)),
                tuple(sample.values()),
                str(path),
                input_names=list(sample),
                output_names=outputs,
                dynamic_shapes=(axes,),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except Exception as error:
        first = str(error).strip().splitlines()
        raise ModelError(
            f"{predictor.run.model}: {type(predictor.model).__name__} can't be exported: "
            f"{first[0][:200] if first else type(error).__name__}"
        ) from error
    return list(sample), outputs


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silences what the exporter says of its own libraries and of operators that no model here has."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _difference(predictor: Predictor, split: Split, path: Path) -> float:
    """Returns the largest difference in any output, NaN where one isn't finite, over batches of several shapes."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    largest = [_of_batch(predictor, session, given) for given in _batches(predictor, split)]
    return float(np.max(largest))


def _batches(predictor: Predictor, split: Split) -> Iterator[dict[str, torch.Tensor]]:
    """Yields what a model is given of all examples, the first of them by itself too: a batch of one."""
    yield _given(predictor, [split[0]])
    ordered = split.sorted_by_length()
    for start in range(0, len(ordered), predictor.batch_size):
        places = range(start, min(start + predictor.batch_size, len(ordered)))
        yield _given(predictor, [ordered[place] for place in places])


def _of_batch(predictor: Predictor, session: onnxruntime.InferenceSession, given: Mapping[str, torch.Tensor]) -> float:
    with torch.no_grad():
        expected = _tensors(predictor.model(**given))
    wanted = {each.name for each in session.get_inputs()}
    arrays = {name: value.cpu().numpy() for name, value in given.items() if name in wanted}
    found = session.run(None, arrays)
    differences = [
        np.max(np.abs(ours - theirs.float().cpu().numpy()))
        for ours, theirs in zip(found, expected.values(), strict=True)
    ]
    return float(np.max(differences))  # not Python's max, by which NaN can pass for less


def _tensors(outputs: Any) -> dict[str, torch.Tensor]:
    """Returns the tensors of a model's outputs by name; what it keeps for the next token is none."""
    return {name: value for name, value in outputs.items() if isinstance(value, torch.Tensor)}
