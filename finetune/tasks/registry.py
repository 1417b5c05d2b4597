"""The table of tasks, a user's own among them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter

from finetune.errors import SettingError, did_you_mean
from finetune.tasks.base import Task
from finetune.tasks.causal_language_modelling import CausalLanguageModelling
from finetune.tasks.image_classification import ImageClassification
from finetune.tasks.masked_language_modelling import MaskedLanguageModelling
from finetune.tasks.multi_label import MultiLabel
from finetune.tasks.multiple_choice import MultipleChoice
from finetune.tasks.question_answering import QuestionAnswering
from finetune.tasks.text_classification import TextClassification
from finetune.tasks.text_regression import TextRegression
from finetune.tasks.token_classification import TokenClassification

TASKS: dict[str, type[Task]] = {
    "text_classification": TextClassification,
    "text_regression": TextRegression,
    "image_classification": ImageClassification,
    "multi_label": MultiLabel,
    "token_classification": TokenClassification,
    "causal_language_modelling": CausalLanguageModelling,
    "masked_language_modelling": MaskedLanguageModelling,
    "multiple_choice": MultipleChoice,
    "question_answering": QuestionAnswering,
}
"""The tasks by name; `register_task` adds to it."""

Registered = TypeVar("Registered", bound=type[Task])


def register_task(kind: Registered) -> Registered:
    """Makes a task available to recipes: a frozen dataclass that extends Task, and whose `name` has a default.

    Raises SettingError for what is no such class, and for a name that is taken.
    """
    name = getattr(kind, "name", None) if isinstance(kind, type) and issubclass(kind, Task) else None
    if not isinstance(name, str):
        raise SettingError("register_task", f"{kind!r} must extend Task, and its name must have a default")
    taken = TASKS.get(name)
    if taken is not None and (taken.__module__, taken.__qualname__) != (kind.__module__, kind.__qualname__):
        raise SettingError("register_task", f'"{name}" is taken by {taken.__qualname__}: choose another')
    TASKS[name] = kind
    return kind


def as_task(value: Any) -> Task:
    """Returns a task, or the one that plain values describe: its name, and settings of its own.

    Raises SettingError for an unknown name, and pydantic's ValidationError for settings that break its rules.
    """
    if isinstance(value, Task):
        return value
    if not isinstance(value, Mapping):
        raise SettingError("", f"{json.dumps(value)} is not a block of settings")
    name = value.get("name")
    kind = TASKS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise SettingError(
            "name", f"{json.dumps(name)} is not one of {', '.join(TASKS)}{did_you_mean(str(name), TASKS)}"
        )
    made: Task = TypeAdapter(kind).validate_json(json.dumps(dict(value)))
    return made
