"""A run's model that answers: on texts in a program, or on the rows of a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from finetune.data import Rows
from finetune.errors import DataError, ModelError, RunError, SettingError, listed
from finetune.inference.adapted import load_adapted
from finetune.inference.finished import FinishedRun, read_finished
from finetune.tasks.columns import GIVEN
from finetune.tasks.encoding import NO_LABEL
from finetune.tasks.model_folder import ADAPTER_CONFIG
from finetune.tasks.pretrained import Pretrained
from finetune.training.failures import is_out_of_memory
from finetune.training.layout import device_of_this_process
from finetune.training.precision import Format, Precision, resolve_precision
from finetune.training.prediction import in_first_order, joined, kept_of_batch
from finetune.training.random_state import preserved_random_state

if TYPE_CHECKING:
    import pyarrow

    from finetune.tasks.base import Outputs, Split

DTYPES: Mapping[Format, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Predictor:
    """A run's model on a device, and how it is asked: `batch_size` examples at a time, computed in `precision`.

    Called with examples it returns a table of predictions, a row for each, in their order. Examples are texts, where
    the task reads one column of them, or rows: a mapping of columns to values for each. What is returned doesn't depend
    on the batch size, up to rounding, and neither training nor the global generators are touched.
    """

    run: FinishedRun
    model: torch.nn.Module
    processor: Any
    device: torch.device
    batch_size: int
    precision: Format

    def __call__(self, examples: Sequence[str] | Sequence[Mapping[str, Any]]) -> pyarrow.Table:
        """Returns the predictions; raises DataError for examples that the task can't read."""
        import pyarrow

        return pyarrow.table(self.predict(_rows_of(examples, text=getattr(self.run.task, "text", None))))

    def predict(self, rows: Rows) -> dict[str, Any]:
        """Returns the columns of predictions of `rows`, a value for each; raises DataError. Labels aren't read."""
        examples = self.run.task.read_for(rows, self.run.classes, labelled=False)
        split = self.encode(examples, GIVEN)
        return self.run.task.prediction_columns(self.outputs(split), split, self.run.classes)

    def encode(self, examples: Any, name: str) -> Split:
        """Returns examples that the task has read, encoded and checked; `name`: what errors call them."""
        split = self.run.task.encode(examples, self.processor)
        split.check(name)
        return split

    def outputs(self, split: Split) -> Outputs:
        """Returns what the task keeps of the outputs on every example, in order.

        Raises RunError where the memory doesn't suffice.
        """
        try:
            return self._outputs(split)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise RunError(
                f"out of memory on {self.device}, with {self.batch_size} examples at a time: give a batch size of "
                f"{max(1, self.batch_size // 2)}"
            ) from error

    def _outputs(self, split: Split) -> Outputs:
        ordered, collate = split.sorted_by_length(), self.run.task.collator(self.processor)
        batches: dict[str, list[Any]] = {}
        with torch.inference_mode(), self._casting():
            for start in range(0, len(ordered), self.batch_size):
                places = range(start, min(start + self.batch_size, len(ordered)))
                batch = collate([ordered[place] for place in places])
                inputs = {name: value.to(self.device) for name, value in batch.items()}
                for name, kept in kept_of_batch(self.run.task, self.model, inputs).items():
                    batches.setdefault(name, []).append(_array(kept))
        return in_first_order({name: joined(each, padding=NO_LABEL) for name, each in batches.items()}, ordered)

    def _casting(self) -> torch.autocast:
        dtype = DTYPES[self.precision]
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not torch.float32)


def load_run(
    run: Path | str,
    *,
    batch_size: int | None = None,
    precision: Precision = "fp32",
    allow_plugins: bool = False,
    trust_remote_code: bool = False,
) -> Predictor:
    """Returns what answers with the model of the run in the directory `run`, on a GPU if there is one.

    `batch_size`: by default the one that the run evaluated with; `precision`: fp32 gives the predictions that the run
    recorded, as far as it evaluated in fp32 too. Raises FinetuneError where there is no such run or no whole model.
    """
    finished = read_finished(Path(run), allow_plugins=allow_plugins)
    return load_predictor(finished, batch_size=batch_size, precision=precision, trust_remote_code=trust_remote_code)


def load_predictor(
    run: FinishedRun,
    *,
    batch_size: int | None = None,
    precision: Precision = "fp32",
    trust_remote_code: bool = False,
) -> Predictor:
    """As `load_run`, of a run whose record has been read."""
    if batch_size is not None and batch_size < 1:
        raise SettingError("batch-size", f"{batch_size} must be 1 or more")
    device = device_of_this_process()
    in_force = resolve_precision(precision, device, setting="precision")
    load = load_adapted if (run.model / ADAPTER_CONFIG).exists() else _load_whole
    with preserved_random_state():
        model, processor = load(run, trust_remote_code=trust_remote_code)
    size = batch_size or run.record.recipe["evaluation"]["batch_size"]
    return Predictor(run, model.to(device).eval(), processor, device, size, in_force)


def _load_whole(run: FinishedRun, *, trust_remote_code: bool) -> tuple[torch.nn.Module, Any]:
    """Returns the model in the run's folder, and its processor."""
    source = Pretrained(str(run.model), local=True, trust_remote_code=trust_remote_code)
    source.check()
    processor = run.task.load_processor(source)
    loaded = run.task.load_model(source, classes=run.classes, processor=processor, seed=0)
    if loaded.new_tensors:
        raise ModelError(
            f"{run.model}: its weights lack {listed(loaded.new_tensors, most=4)}, so it would answer at random; "
            "finetune run … --repeat makes it anew"
        )
    return loaded.model, processor


def _array(kept: torch.Tensor) -> np.ndarray[Any, Any]:
    """Returns a tensor as an array; NumPy has no bf16."""
    return (kept.float() if kept.dtype in (torch.bfloat16, torch.float16) else kept).cpu().numpy()


def _rows_of(examples: Sequence[str] | Sequence[Mapping[str, Any]], *, text: str | None) -> Rows:
    import pyarrow

    if isinstance(examples, str | Mapping):
        raise DataError("give a list of examples, also for a single one")
    given: list[Any] = list(examples)
    if given and all(isinstance(each, str) for each in given):
        if text is None:
            raise DataError("the task reads no single column of texts: give a mapping of columns to values for each")
        given = [{text: each} for each in given]
    if not all(isinstance(each, Mapping) for each in given):
        raise DataError("each example must be a text, or a mapping of columns to values")
    try:
        return Rows.of_table(pyarrow.Table.from_pylist([dict(each) for each in given]))
    except (pyarrow.ArrowException, TypeError, ValueError) as error:
        raise DataError(f"the examples make no table: {error}") from error
