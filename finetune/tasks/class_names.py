"""What can be the name of a class, and which names are one name to the eye."""

from __future__ import annotations

import reprlib
import unicodedata
from collections.abc import Sequence

from finetune.errors import DataError

LONGEST = 200


def check_names(where: str, names: Sequence[str]) -> None:
    """Raises DataError where a name of `where` is longer than a line, has control characters or looks like another."""
    alike: dict[str, str] = {}
    for name in names:
        if len(name) > LONGEST or any(unicodedata.category(sign) == "Cc" for sign in name):
            raise DataError(
                f"{where} holds {reprlib.repr(name)}; the name of a class is one line of {LONGEST} characters at most"
            )
        other = alike.setdefault(_visible(name), name)
        if other != name:
            raise DataError(
                f"{where} has the classes {other!r} and {name!r}, which look alike: they differ in white space or "
                "invisible characters alone; make them one"
            )


def _visible(name: str) -> str:
    """Returns what is seen of `name`: composed, without format characters, and with single spaces in between."""
    seen = (sign for sign in unicodedata.normalize("NFC", name) if unicodedata.category(sign) != "Cf")
    return " ".join("".join(seen).split())
