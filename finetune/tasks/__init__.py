"""Tasks by name: what a run predicts, from which columns, with which model head. One class and one row each."""

from finetune.tasks.base import Task
from finetune.tasks.causal_language_modelling import CausalLanguageModelling
from finetune.tasks.masked_language_modelling import MaskedLanguageModelling
from finetune.tasks.registry import TASKS, as_task, register_task
from finetune.tasks.text_classification import TextClassification

__all__ = [
    "TASKS",
    "CausalLanguageModelling",
    "MaskedLanguageModelling",
    "Task",
    "TextClassification",
    "as_task",
    "register_task",
]
