"""Whether the Hub can be reached, found out before its libraries try for minutes."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

_HERE: dict[str, str] = {}
"""Why the Hub is out of reach at the moment, under "why", if it was found to be."""


@contextmanager
def reaching_the_hub() -> Iterator[None]:
    """Has the Hub's libraries read their cache alone, as with HF_HUB_OFFLINE=1, where its host isn't found.

    They would do so too, after 23 seconds of trying for each file. A proxy looks names up by itself, so behind one
    nothing is tried beforehand.
    """
    from huggingface_hub import constants

    host = urlsplit(constants.ENDPOINT).hostname or ""
    if constants.HF_HUB_OFFLINE or getproxies() or _is_found(host):
        yield
        return
    switches: list[Any] = [constants, *filter(None, [sys.modules.get("datasets.config")])]
    for switch in switches:
        switch.HF_HUB_OFFLINE = True
    _HERE["why"] = f"the Hub can't be reached, as {host} isn't found: mend the connection"
    try:
        yield
    finally:
        _HERE.clear()
        for switch in switches:
            switch.HF_HUB_OFFLINE = False


def _is_found(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return False
    return True


def why_out_of_reach() -> str:
    """Returns why the Hub's libraries read their cache alone, and what helps; "" where they don't."""
    from huggingface_hub import is_offline_mode

    return _HERE.get("why", "HF_HUB_OFFLINE=1 keeps the Hub out of reach: unset it" if is_offline_mode() else "")
