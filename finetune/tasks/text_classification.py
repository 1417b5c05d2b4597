"""Text classification: one label per sentence or pair of sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from finetune.tasks.base import Outline
from finetune.tasks.classification import Classification
from finetune.tasks.columns import GIVEN, Labels, check_columns
from finetune.tasks.labelled_texts import LabelledTexts, TextTask

if TYPE_CHECKING:
    from finetune.data import Rows


@dataclass(frozen=True, kw_only=True)
class TextClassification(TextTask, Classification):
    """Settings. `text`, `text_pair`, `label`: column names; `max_length`: tokens kept per example, pair included."""

    problem_type: ClassVar[str] = "single_label_classification"

    name: Literal["text_classification"] = "text_classification"

    def read(self, splits: Mapping[str, Rows]) -> tuple[tuple[str, ...], dict[str, LabelledTexts]]:
        """Returns the class names, and split ▶ its examples with labels as positions in those names.

        The names are those of the train split's label column (a ClassLabel of `datasets`), else its values, sorted. A
        ClassLabel of another split is matched by name, whatever its order. Raises DataError for a missing column, an
        empty split, an empty cell, texts that aren't text, labels that aren't classes, a single class, a class for
        almost every row, class names that are no names or look alike, and a label that is none of the classes.
        """
        for split, rows in splits.items():
            check_columns(split, rows, self.columns)
        labels = {split: Labels.of(split, rows, self.label) for split, rows in splits.items()}
        classes = labels["train"].classes()
        return tuple(classes.values()), {
            split: self.with_texts(split, rows, labels[split].numbers(list(classes))) for split, rows in splits.items()
        }

    def read_for(self, rows: Rows, classes: Sequence[str], *, labelled: bool) -> LabelledTexts:
        """As the base's; labels are matched by the names of their classes."""
        import numpy as np

        check_columns(GIVEN, rows, self.columns if labelled else self.text_columns)
        if not labelled:
            return self.with_texts(GIVEN, rows, np.zeros(len(rows), dtype=np.int64))
        return self.with_texts(GIVEN, rows, Labels.of(GIVEN, rows, self.label).numbers_by_name(classes))

    def outline(self, examples: LabelledTexts, classes: Sequence[str]) -> Outline:
        """Returns how many examples there are of each class, and the texts."""
        import numpy as np

        of_each = np.bincount(np.asarray(examples.labels), minlength=len(classes)).tolist()
        return Outline(len(examples), dict(zip(classes, of_each, strict=True)), examples.parts)
