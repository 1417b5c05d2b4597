"""A metric of ours as one of the `evaluate` library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import datasets
import evaluate
import numpy as np
from datasets import Sequence, Value

from finetune.metrics.answers import Answers, Form
from finetune.metrics.base import Metric

_COLUMNS: dict[Form, tuple[Any, Any]] = {
    "classes": (Value("int64"), Value("int64")),
    "label_sets": (Sequence(Value("int64")), Sequence(Value("int64"))),
    "numbers": (Value("float64"), Value("float64")),
    "tags": (Sequence(Value("string")), Sequence(Value("string"))),
    "texts": (Value("string"), Sequence(Value("string"))),
    "tokens": (Sequence(Value("float64")), Value("int64")),
}
"""The types of predictions and references."""

_READ: dict[Form, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "classes": (np.asarray, np.asarray),
    "label_sets": (np.asarray, np.asarray),
    "numbers": (np.asarray, np.asarray),
    "tags": (list, list),
    "texts": (list, lambda accepted: [tuple(each) for each in accepted]),
    "tokens": (np.asarray, np.asarray),
}
"""How the lists of them become those of `Answers`."""


class MetricInEvaluate(evaluate.Metric):  # type: ignore[misc]
    """Computes what `metric` does by `evaluate`'s protocol, without the Hub.

    The columns are `predictions` and `references` or, of a metric that needs probabilities, `prediction_scores` and
    `references`.
    """

    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        super().__init__(keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self._metric.formula,
            citation=self._metric.__doc__ or "",
            features=[self._features(form) for form in self._metric.forms],
        )

    def _features(self, form: Form) -> datasets.Features:
        predictions, references = _COLUMNS[form]
        if self._metric.needs_scores:
            return datasets.Features({"prediction_scores": Sequence(Value("float64")), "references": references})
        return datasets.Features({"predictions": predictions, "references": references})

    def _compute(
        self, references: Any, predictions: Any = None, prediction_scores: Any = None, **others: Any
    ) -> dict[str, float]:
        """Returns the value; what is meant for other metrics that this one is combined with is let pass."""
        scores = np.asarray(prediction_scores, dtype=float) if self._metric.needs_scores else None
        form = self._form_of(predictions if scores is None else prediction_scores, references)
        of_predictions, of_references = _READ[form]
        answered = of_predictions(predictions) if scores is None else _likeliest(form, scores)
        answers = Answers(form, answered, of_references(references), scores=scores)
        return {self._metric.metric_name: self._metric.value(answers)}

    def _form_of(self, given: Any, references: Any) -> Form:
        """Returns the form of answers that the first example is of, as `evaluate` chose the types of the columns."""
        name = "prediction_scores" if self._metric.needs_scores else "predictions"
        chosen = self._infer_feature_from_example({name: given[0], "references": references[0]})
        form: Form = self._metric.forms[self.features.index(chosen)]
        return form


def _likeliest(form: Form, scores: Any) -> Any:
    return scores.argmax(axis=-1) if form == "classes" else (scores >= 0.5).astype(np.int64)
