"""The errors a user can cause. Each carries one message that names the place, the value, the rule and the remedy.

The command line prints the message and exits with code 2; a library user catches `FinetuneError`.
"""

from collections.abc import Collection
from difflib import get_close_matches


class FinetuneError(Exception):
    """Base of every error that a change of input, rather than of code, can mend."""


class SettingError(FinetuneError, ValueError):
    """A setting whose value breaks a rule: `field` is its name, as in a recipe; `problem` the message without it."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(field, problem)  # both in args, so that pickle can carry it between processes
        self.field = field
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.field}: {self.problem}"


class RecipeError(FinetuneError):
    """A recipe that can't be used; the message lists every problem, each with its file and line."""


class DataError(FinetuneError):
    """Data that is missing, unreadable or unfit for the task."""


class ModelError(FinetuneError):
    """A model or tokenizer that is missing, incomplete or unfit for the task."""


class RecordError(FinetuneError):
    """A run directory that can't be written, or a record that can't be read."""


class DeviceError(FinetuneError):
    """A setting that the hardware or the number of processes can't satisfy."""


def did_you_mean(word: str, choices: Collection[str]) -> str:
    """Returns " (did you mean X?)" for the choice nearest to `word`, or "" where none is near."""
    near = get_close_matches(word.casefold(), {choice.casefold(): choice for choice in choices}, n=1, cutoff=0.6)
    if not near:
        return ""
    original = next(choice for choice in choices if choice.casefold() == near[0])
    return f" (did you mean {original}?)"
