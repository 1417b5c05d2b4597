"""What is wrong with a command line, said as all other mistakes are."""

from __future__ import annotations

import re
import sys
from typing import cast

import typer

from finetune.cli.speech import complain

UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])
"""A command line that can't be understood: a class of typer's own, or of click, by the version of typer."""

_PLAINER = (
    (r"^Invalid value for '?(.*?)'?: Input should be (.*?)(?:, unable to parse .*)?$", r"\1: must be \2"),
    (r"^(Missing (?:argument|option|parameter)) '(.*)'$", r"\1 \2"),
    (r"\. Did you mean '?([^']*?)'?\?$", r" (did you mean \1?)"),
    (r"\(Possible options: ", "(there are "),
)


def answer(error: typer.BadParameter) -> None:
    """Says on standard error what is wrong, and the command whose help tells more; or shows the help itself."""
    message = error.format_message()
    if "\n" in message:
        print(message, file=sys.stderr)
        return
    message = message.removesuffix(".")
    if setting := re.fullmatch(r"No such option: --(\w+(?:\.\w+)+)(?:=.*)?", message):
        message += f"; a setting is given as {setting[1]}=VALUE, without dashes"
    for pattern, plainer in _PLAINER:
        message = re.sub(pattern, plainer, message)
    more = f"; {error.ctx.command_path} --help tells more" if error.ctx else ""
    complain(f"{message[:1].lower()}{message[1:]}{more}")
