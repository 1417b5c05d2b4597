"""To whom a command speaks: to a person, to a program, or to nobody."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from finetune.untrusted import presentable

if TYPE_CHECKING:
    from rich.console import Console


def console_of(*, quiet: bool, as_json: bool) -> Console:
    """Returns what a command speaks through; it is silent where nobody listens, or a program that is to have JSON."""
    from rich.console import Console

    return Console(quiet=quiet or as_json)


def print_json(value: Any) -> None:
    """Prints plain values as JSON; raises ValueError for a number that isn't finite."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def complain(problem: str) -> None:
    """Says on standard error what went wrong, in one line or as many as `problem` has."""
    print(f"finetune: {presentable(problem)}", file=sys.stderr)
