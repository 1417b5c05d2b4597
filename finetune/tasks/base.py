"""What every task has: which columns it reads, what a model is given of them, and what its outputs come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pydantic import TypeAdapter

if TYPE_CHECKING:
    import numpy as np
    import torch

    from finetune.data import Keep, Rows
    from finetune.metrics.answers import Answers, Form
    from finetune.tasks.pretrained import LoadedModel, Pretrained

    Array = np.ndarray[Any, Any]
    Outputs = Mapping[str, Array]
    """What is kept of a model's outputs: name ▶ an array whose first dimension is the examples of a split."""


class Examples(Protocol):
    """The examples of a split as they were read; what they are made of is the task's own affair."""

    def __len__(self) -> int: ...


class Split(Protocol):
    """n examples of a split, encoded: a dataset for torch. One example read may be several here, or a part of one.

    `lengths`: shape (n,), how long each is, in what it costs: tokens, for texts; those of similar length are put
    together. `rows`: shape (n,), the place of each in the whole split, as encoded. `truncated`: how many examples were
    longer than allowed.
    """

    @property
    def lengths(self) -> Array: ...
    @property
    def rows(self) -> Array: ...
    @property
    def truncated(self) -> int: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    def select(self, positions: Array) -> Split:
        """Returns the examples at `positions`, in that order."""

    def sorted_by_length(self) -> Split:
        """Returns the same examples, longest first, so that batches in order are padded little."""

    def check(self, split: str) -> None:
        """Raises DataError where an example of `split`, as this split is called, gives the model nothing."""


@dataclass(frozen=True)
class Outline:
    """What a split has, without a model. `shares`: the number of examples of each class, where there are classes.

    `texts`: the columns of texts that a model is given together, each of as many texts as there are examples, times
    `sequences`, how many in turn an example has; none for what isn't text. `added`: how many tokens the task adds to
    those that the tokenizer makes of an example. `sizes`: the width and the height of each image, shape (n, 2), where
    examples are images.
    """

    count: int
    shares: Mapping[str, int]
    texts: tuple[Sequence[str], ...]
    sizes: Array | None = None
    added: int = 0
    sequences: int = 1


@dataclass(frozen=True)
class Judgement:
    """What a model's outputs on a split come to: the mean loss, and answers beside what is true, for metrics."""

    loss: float
    answers: Answers


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a run predicts. Subclasses are frozen dataclasses of settings, `name` the first, and a row of a table.

    `form`: of the answers that metrics are computed from; `metrics`: those of a recipe that names none, the first of
    which selects models; `loss_over_classes`: whether the training loss is the cross-entropy of `class_logits`, so that
    labels can be smoothed; `has_named_classes`: whether the classes are those of `read`, each label the number of one.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid", "strict": True}

    form: ClassVar[Form]
    metrics: ClassVar[tuple[str, ...]]
    loss_over_classes: ClassVar[bool] = False
    has_named_classes: ClassVar[bool] = False

    name: str

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings as plain values, `as_task` of which is an equal task."""
        plain: dict[str, Any] = TypeAdapter(type(self)).dump_python(self, mode="json")
        return plain

    @property
    def longest(self) -> int | None:
        """How many tokens are kept of an example, None where there are none to count."""
        return getattr(self, "max_length", None)

    @property
    def one_to_one(self) -> bool:
        """Whether each example read is one that is trained on, so that their number is known without a tokenizer."""
        return True

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read, in order."""
        raise NotImplementedError

    @property
    def naming_files(self) -> tuple[str, ...]:
        """Those of the columns that may hold the names of files, seen from the folder of the file of data."""
        return ()

    def fingerprint(self, rows: Rows, examples: Any) -> str:
        """Returns the SHA-256 of all that is read of `rows`, in order; `examples`: what `read` returned of them."""
        from finetune.data import fingerprint

        return fingerprint(rows, self.columns)

    def read(self, splits: Mapping[str, Rows]) -> tuple[tuple[str, ...], dict[str, Any]]:
        """Returns the names of the classes, none where there are none, and split ▶ its examples; raises DataError."""
        raise NotImplementedError

    def read_for(self, rows: Rows, classes: Sequence[str], *, labelled: bool) -> Any:
        """Returns the examples in `rows` for a model that knows `classes`; raises DataError.

        Without `labelled` the columns of labels needn't be there, and placeholders stand for them.
        """
        raise NotImplementedError

    def outline(self, examples: Any, classes: Sequence[str]) -> Outline:
        """Returns what there is to say of a split before anything is encoded."""
        raise NotImplementedError

    def cautions(self, splits: Mapping[str, Any], classes: Sequence[str]) -> list[str]:
        """Returns what is wrong with the examples of `read` but isn't refused."""
        return []

    def encode(
        self, examples: Any, processor: Any, *, fingerprint: str | None = None, keep: Keep | None = None
    ) -> Split:
        """Returns the examples as a model takes them.

        `keep`: keeps what was made for another time, of examples known by the `fingerprint` of their columns.
        """
        raise NotImplementedError

    def examples_in(self, split: Any) -> int:
        """Returns how many examples an encoded split is judged by: all that it has, unless several are one together."""
        return len(split)

    def collator(self, processor: Any) -> Any:
        """Returns what makes a batch of examples: tensors by name, "labels" among them, each of the batch's length."""
        raise NotImplementedError

    def load_processor(self, source: Pretrained) -> Any:
        """Returns the model's own tokenizer, or its image processor; raises ModelError."""
        from finetune.tasks.pretrained import load_tokenizer

        return load_tokenizer(source, max_length=self.longest or 0)

    def load_model(self, source: Pretrained, *, classes: Sequence[str], processor: Any, seed: int) -> LoadedModel:
        """Returns the pretrained model, under a new head where it lacks one of the task; raises ModelError."""
        raise NotImplementedError

    def kept_outputs(self, outputs: Any, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Returns what is kept of the outputs on a batch, so little that a whole split of it fits in memory."""
        return {"logits": outputs.logits}

    def training_loss(
        self, outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Returns the loss summed over the labels of a batch that count, all but −100, over `num_items_in_batch`.

        That is how many there are in all micro-batches and processes; those of this batch, where it isn't given. The
        models' own losses can't be relied on: BERT's, among others, takes that number and passes it over, so that the
        gradient grows with the micro-batches and the processes.
        """
        raise NotImplementedError

    def class_logits(self, outputs: Any, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns logits of shape (n, classes), and n class numbers or −100, where the loss is one over classes.

        `training_loss` is the sum of the cross-entropies of those that count, over their number in the whole batch.
        """
        raise NotImplementedError

    def label_counts(self, split: Any, classes: Sequence[str]) -> Array:
        """Returns how many labels of `split` are of each of `classes`, where they are named."""
        raise NotImplementedError

    def judge(self, outputs: Outputs, split: Any, classes: Sequence[str]) -> Judgement:
        """Returns what the outputs on `split`, in its order, come to."""
        raise NotImplementedError

    def label_columns(self, split: Any, classes: Sequence[str]) -> dict[str, Any]:
        """Returns the columns of a table of predictions that say what is true, a row per example read."""
        raise NotImplementedError

    def prediction_columns(self, outputs: Outputs, split: Any, classes: Sequence[str]) -> dict[str, Any]:
        """Returns the columns of a table of predictions that say what is predicted, a row per example read."""
        raise NotImplementedError
