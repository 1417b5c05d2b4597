"""Options as a user gives them, in messages of what doesn't know that it was asked from a command line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from finetune.errors import SettingError


@contextmanager
def naming_options(*names: str, **others: str) -> Iterator[None]:
    """Has a SettingError on its way out name the option.

    `names`: settings whose option is called as they are, "output" ▶ --output; `others`: each setting's option by name.
    """
    options = dict(zip(names, names, strict=True)) | others
    try:
        yield
    except SettingError as error:
        if error.field not in options:
            raise
        raise SettingError(f"--{options[error.field]}", error.problem) from error
