"""What is wrong with a command line, said as all other mistakes are."""

from __future__ import annotations

import re
from typing import cast

import typer

UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])
"""A command line that can't be understood: a class of typer's own, or of click, by the version of typer."""


_PLAINER = (
    (r"^Invalid value for '?(.*?)'?: Input should be (.*?)(?:, unable to parse .*)?$", r"\1: must be \2"),
    (r"^(Missing (?:argument|option|parameter)) '(.*)'$", r"\1 \2"),
    (r"\. Did you mean '?([^']*?)'?\?$", r" (did you mean \1?)"),
    (r"\(Possible options: ", "(there are "),
)


def in_words(error: typer.BadParameter) -> str:
    """Returns the message of a `UsageError` and the command whose help tells more, or the help itself."""
    message = error.format_message()
    if "\n" in message:
        return message
    message = message.removesuffix(".")
    if setting := re.fullmatch(r"No such option: --(\w+(?:\.\w+)+)(?:=.*)?", message):
        message += f"; a setting is given as {setting[1]}=VALUE, without dashes"
    for pattern, plainer in _PLAINER:
        message = re.sub(pattern, plainer, message)
    more = f"; {error.ctx.command_path} --help tells more" if error.ctx else ""
    return f"finetune: {message[:1].lower()}{message[1:]}{more}"
