"""Text from elsewhere, made fit for a terminal, a log or a record: it commands nothing, and gives no secret away."""

from __future__ import annotations

import os
import re

_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_NAME_OF_SECRET = re.compile("TOKEN|SECRET|PASSW|CREDENTIAL|(API|ACCESS|PRIVATE)_?KEY", re.IGNORECASE)
_IN_URL = re.compile(r"(?<=:/)(/?)[^/\s]+@")
_OF_THE_HUB = re.compile(r"\bhf_\w{16,}")
_FEWEST = 8  # characters of a secret: TOKENIZERS_PARALLELISM=false is none
_HIDDEN = "***"


def visible(text: str) -> str:
    r"""Returns `text` with what would command a terminal, or turn the direction of writing, spelt out as in \x1b[31m.

    Line breaks and tabs stay.
    """
    return _COMMANDS.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def presentable(text: str) -> str:
    """Returns `text`, as `visible` does, without the secrets of the environment and those in URLs.

    A secret is the value of a variable such as HF_TOKEN or WANDB_API_KEY, a token of the Hub, and what stands before
    the host of a URL.
    """
    for name, value in os.environ.items():
        if len(value) >= _FEWEST and _NAME_OF_SECRET.search(name):
            text = text.replace(value, _HIDDEN)
    text = _OF_THE_HUB.sub(_HIDDEN, text)
    return visible(_IN_URL.sub(rf"\g<1>{_HIDDEN}@", text))
