"""Tasks by name: what a run predicts, from which columns, with which model head. One class and one row each."""

from finetune.tasks.base import Task
from finetune.tasks.causal_language_modelling import CausalLanguageModelling
from finetune.tasks.image_classification import ImageClassification
from finetune.tasks.masked_language_modelling import MaskedLanguageModelling
from finetune.tasks.multi_label import MultiLabel
from finetune.tasks.registry import TASKS, as_task, register_task
from finetune.tasks.text_classification import TextClassification
from finetune.tasks.text_regression import TextRegression
from finetune.tasks.token_classification import TokenClassification

__all__ = [
    "TASKS",
    "CausalLanguageModelling",
    "ImageClassification",
    "MaskedLanguageModelling",
    "MultiLabel",
    "Task",
    "TextClassification",
    "TextRegression",
    "TokenClassification",
    "as_task",
    "register_task",
]
