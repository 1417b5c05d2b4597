"""Tasks by name: what a run predicts, from which columns, with which model head. One class and one row each."""

from finetune.tasks.text_classification import TextClassification

TASKS = {"text_classification": TextClassification}

__all__ = ["TASKS", "TextClassification"]
