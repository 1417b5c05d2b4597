"""Multi-label classification: any number of labels, none included, for each sentence or pair of sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from finetune.errors import DataError, SettingError
from finetune.tasks.base import Judgement, Outline
from finetune.tasks.class_names import check_names
from finetune.tasks.columns import GIVEN, check_columns, flags_of
from finetune.tasks.labelled_texts import LabelledTexts, TextTask

if TYPE_CHECKING:
    import torch

    from finetune.data import Rows
    from finetune.metrics.answers import Form
    from finetune.tasks.base import Array, Outputs
    from finetune.tasks.listed_labels import ListedLabels


@dataclass(frozen=True, kw_only=True)
class MultiLabel(TextTask):
    """Settings. `text`, `text_pair`, `max_length`: as for text classification; `threshold`: the probability from which
    on a label is predicted. `label`: a column of lists of labels; or `labels`: a column of 0 and 1 for each label.
    """

    form: ClassVar[Form] = "label_sets"
    metrics: ClassVar[tuple[str, ...]] = ("f1_micro", "f1_macro", "exact_match", "auroc")
    problem_type: ClassVar[str] = "multi_label_classification"

    name: Literal["multi_label"] = "multi_label"
    labels: tuple[str, ...] | None = None
    threshold: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.threshold < 1:
            raise SettingError("threshold", f"{self.threshold} must be a probability between 0 and 1")
        if self.labels is not None:
            _check_columns_of_labels(self.labels, self.text_columns)

    @property
    def columns_of_labels(self) -> tuple[str, ...]:
        """The columns that labels are read from, in order."""
        return (self.label,) if self.labels is None else self.labels

    def read(self, splits: Mapping[str, Rows]) -> tuple[tuple[str, ...], dict[str, LabelledTexts]]:
        """Returns the names of the labels, and split ▶ its examples, whose labels are 0 and 1 of shape (n, labels).

        The names are those of `labels`; else those of the train split's lists (a ClassLabel of `datasets`), else their
        values, sorted. Raises DataError for a missing column, an empty split, an empty cell, texts that aren't text,
        labels that are no names, or fewer than two, one that the train split doesn't have or a row has twice, values of
        `labels` other than 0 and 1, and for one of `labels` that is the same in every row of train.
        """
        for split, rows in splits.items():
            check_columns(split, rows, self.columns)
        if self.labels is not None:
            check_names("labels", self.labels)
            matrices = {split: _flags(split, rows, self.labels) for split, rows in splits.items()}
            _check_that_they_vary(self.labels, matrices["train"])
            names = self.labels
        else:
            from finetune.tasks.listed_labels import ListedLabels

            lists = {split: ListedLabels.of_lists(split, rows, self.label) for split, rows in splits.items()}
            classes = lists["train"].classes()
            matrices = {split: _sets(each, each.numbers(list(classes)), len(classes)) for split, each in lists.items()}
            names = tuple(classes.values())
        return names, {split: self.with_texts(split, rows, matrices[split]) for split, rows in splits.items()}

    def read_for(self, rows: Rows, classes: Sequence[str], *, labelled: bool) -> LabelledTexts:
        """As the base's; labels are matched by their names."""
        import numpy as np

        if not labelled:
            check_columns(GIVEN, rows, self.text_columns)
            return self.with_texts(GIVEN, rows, np.zeros((len(rows), len(classes)), dtype=np.int8))
        check_columns(GIVEN, rows, self.columns)
        if self.labels is not None:
            return self.with_texts(GIVEN, rows, _flags(GIVEN, rows, classes))
        from finetune.tasks.listed_labels import ListedLabels

        labels = ListedLabels.of_lists(GIVEN, rows, self.label)
        return self.with_texts(GIVEN, rows, _sets(labels, labels.numbers_by_name(classes), len(classes)))

    def outline(self, examples: LabelledTexts, classes: Sequence[str]) -> Outline:
        """Returns how many examples have each label, and the texts."""
        import numpy as np

        of_each = np.asarray(examples.labels).sum(axis=0, dtype=np.int64).tolist()
        return Outline(len(examples), dict(zip(classes, of_each, strict=True)), examples.parts)

    def cautions(self, splits: Mapping[str, LabelledTexts], classes: Sequence[str]) -> list[str]:
        """Returns also which labels no text of train has, or all have."""
        shares = self.outline(splits["train"], classes).shares
        never = [f"no train text has the label {name}" for name in classes if shares[name] == 0]
        always = [f"all train texts have the label {name}" for name in classes if shares[name] == len(splits["train"])]
        return [*super().cautions(splits, classes), *never, *always]

    def training_loss(
        self, outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Returns the binary cross-entropy of logits against 0 and 1, both of shape (n, labels), as the base."""
        import torch

        total = torch.nn.functional.binary_cross_entropy_with_logits(
            outputs.logits.float(), labels.float(), reduction="sum"
        )
        return total / (labels.numel() if num_items_in_batch is None else num_items_in_batch)

    def judge(self, outputs: Outputs, split: Any, classes: Sequence[str]) -> Judgement:
        """Returns the mean binary cross-entropy over examples and labels, in nats, and the labels predicted."""
        import numpy as np

        from finetune.metrics.answers import Answers

        logits, true = outputs["logits"].astype(np.float64), split.labels.astype(np.int64)
        loss = np.maximum(logits, 0) - logits * true + np.log1p(np.exp(-np.abs(logits)))
        shares = probabilities(logits)
        predicted = (shares >= self.threshold).astype(np.int64)
        return Judgement(
            float(np.mean(loss)), Answers("label_sets", predicted, true, scores=shares, names=tuple(classes))
        )

    def label_columns(self, split: Any, classes: Sequence[str]) -> dict[str, Any]:
        """Returns the list of each example's labels."""
        return {"label": _named(split.labels != 0, classes)}

    def prediction_columns(self, outputs: Outputs, split: Any, classes: Sequence[str]) -> dict[str, Any]:
        """Returns the list of the labels predicted, and each label's probability."""
        shares = probabilities(outputs["logits"])
        columns: dict[str, Any] = {"prediction": _named(shares >= self.threshold, classes)}
        return columns | {f"probability_{name}": shares[:, number] for number, name in enumerate(classes)}


def probabilities(logits: Array) -> Array:
    """Returns the logistic function of each logit, float64."""
    import numpy as np

    wide = logits.astype(np.float64)
    power = np.exp(-np.abs(wide))
    shares: Array = np.where(wide >= 0, 1, power) / (1 + power)
    return shares


def _check_columns_of_labels(labels: Sequence[str], text_columns: Sequence[str]) -> None:
    if len(labels) < 2:
        raise SettingError("labels", f"names {len(labels)}; two or more are needed")
    if len(set(labels)) < len(labels):
        raise SettingError("labels", f"{', '.join(labels)} names one twice")
    for column in text_columns:
        if column in labels:
            raise SettingError("labels", f'"{column}" is a column of texts')


def _flags(split: str, rows: Rows, labels: Sequence[str]) -> Array:
    import numpy as np

    return np.stack([flags_of(split, rows, column) for column in labels], axis=1)


def _check_that_they_vary(labels: Sequence[str], matrix: Array) -> None:
    for column, values in zip(labels, matrix.T, strict=True):
        if values.min() == values.max():
            raise DataError(
                f'column "{column}" of the train split is {values[0]} in every row: nothing can be learnt of it; leave '
                "it out of task.labels"
            )


def _sets(labels: ListedLabels, numbers: Array, count: int) -> Array:
    """Returns which of `count` labels each row has; raises DataError where it has one twice."""
    import numpy as np

    lengths = np.diff(labels.bounds)
    owners = np.repeat(np.arange(len(lengths)), lengths)
    matrix = np.zeros((len(lengths), count), dtype=np.int8)
    matrix[owners, numbers] = 1
    twice = np.flatnonzero(matrix.sum(axis=1, dtype=np.int64) < lengths)
    if len(twice):
        raise DataError(
            f'column "{labels.column}" of the {labels.split} split has a label twice in row {twice[0] + 1:,} '
            f"({len(twice):,} of this kind in all): name each label of a text once"
        )
    return matrix


def _named(flags: Array, names: Sequence[str]) -> list[list[str]]:
    return [[name for name, has in zip(names, row, strict=True) if has] for row in flags]
