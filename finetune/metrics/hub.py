"""Metrics of the Hub, or of a local folder, as `evaluate.load` has them: programs of others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from finetune.errors import SettingError, listed
from finetune.metrics import HUB_FORMS
from finetune.metrics.answers import Answers, Form
from finetune.metrics.base import Metric

if TYPE_CHECKING:
    import evaluate

_WITH_KEY = re.compile(r"(?P<name>.*[^./])\.(?P<key>(?!py$)[A-Za-z_]\w*)")


def load_from_hub(name: str, source: str) -> Metric:
    """Returns the metric `name` that `evaluate.load` finds at `source`, NAME or NAME.KEY; runs its program.

    Raises SettingError where it can't be had, or takes anything but predictions and references.
    """
    import evaluate

    found = _WITH_KEY.fullmatch(source)
    path, own_key = (found["name"], found["key"]) if found else (source, "")
    try:
        loaded = evaluate.load(path, keep_in_memory=True)
    except Exception as error:  # a program of others may raise anything
        raise SettingError(
            "metrics",
            f'"{name}" can\'t be loaded: check the name {path}, the connection and what it requires ({_said(error)})',
        ) from error
    features = loaded.features if isinstance(loaded.features, list) else [loaded.features]
    if {*features[0]} != {"predictions", "references"}:
        raise SettingError("metrics", f'"{name}" takes {", ".join(features[0])}, not predictions and references alone')

    class Loaded(FromHub):
        metric_name: ClassVar[str] = name
        formula: ClassVar[str] = f"that of {path}"

    return Loaded(loaded, key=own_key, one_is_accepted=not any(_is_list(each["references"]) for each in features))


class FromHub(Metric):
    """A metric that another program computes: the number called `key`, or its only one.

    Whether more is better the program doesn't say. `one_is_accepted`: it takes one accepted text per example.
    """

    forms: ClassVar[tuple[Form, ...]] = HUB_FORMS

    def __init__(self, loaded: evaluate.Metric, *, key: str, one_is_accepted: bool) -> None:
        self._loaded = loaded
        self._key = key
        self._one_is_accepted = one_is_accepted

    @property
    def in_evaluate(self) -> evaluate.Metric:
        return self._loaded

    def value(self, answers: Answers) -> float:
        columns = {"predictions": _plain(answers.predictions), "references": self._references(answers)}
        try:
            result = self.compute(**columns)
        except Exception as error:  # a program of others may raise anything
            raise self._error(f"failed on {answers.form}: {_said(error)}") from error
        return self._number(result)

    def _references(self, answers: Answers) -> list[Any]:
        if answers.form != "texts" or not self._one_is_accepted:
            return _plain(answers.references)
        if any(len(accepted) > 1 for accepted in answers.references):
            raise self._error("takes one accepted text per example, and there are several")
        return [accepted[0] if accepted else "" for accepted in answers.references]

    def _number(self, result: Any) -> float:
        given = result.items() if isinstance(result, Mapping) else ()
        numbers = {name: float(np.ravel(each)[0]) for name, each in given if _is_number(each)}
        if self._key in numbers:
            return numbers[self._key]
        if self._key or len(numbers) != 1:
            asked = f"no {self._key}" if self._key else "no single number"
            raise self._error(f"gives {asked}; its numbers are {listed(numbers) or 'none'}: name one as hub:NAME.KEY")
        (only,) = numbers.values()
        return only

    def _error(self, problem: str) -> SettingError:
        return SettingError("metrics", f'"{self.metric_name}" {problem}')


def _plain(column: Any) -> list[Any]:
    """Returns a column as `evaluate` takes it: a list of plain numbers, texts, or lists of them."""
    if hasattr(column, "tolist"):
        plain: list[Any] = column.tolist()
        return plain
    return [each if isinstance(each, str) else list(each) for each in column]


def _is_list(feature: Any) -> bool:
    from datasets import List, Sequence

    return isinstance(feature, List | Sequence | list)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) or (isinstance(value, np.ndarray) and value.size == 1)


def _said(error: Exception) -> str:
    """Returns the kind of an error and the first line of its message."""
    return ": ".join([type(error).__name__, *str(error).splitlines()[:1]])
