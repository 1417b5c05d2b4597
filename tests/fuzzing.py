"""What comes of inputs spoilt by the thousand: each must end in a result or a FinetuneError, within its time."""

import random
import re
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from finetune.errors import FinetuneError

LONGEST_SECONDS = 30
LONGEST_MESSAGE = 40_000
MOST_SHOWN = 20


@dataclass
class Counts:
    """How many spoilt inputs were given, and what came of them; `shown`: the first crashes, with their inputs."""

    injected: int = 0
    accepted: int = 0
    refused: int = 0
    crashes: int = 0
    shown: list[str] = field(default_factory=list)

    def add(self, attempt: Callable[[], object], describe: Callable[[], str]) -> None:
        """Counts what comes of `attempt`; a traceback, or one that takes too long, is a crash."""
        self.injected += 1
        try:
            with _time_limit():
                attempt()
            self.accepted += 1
        except FinetuneError as error:
            self.refused += 1
            if not _is_fit(str(error)):
                self._crashed(f"{describe()}\nrefused in words that aren't fit: {str(error)[:1000]!r}")
        except (Exception, _TooLong):  # noqa: BLE001 - it is what is sought
            self._crashed(f"{describe()}\n{traceback.format_exc(limit=-6)}")

    def _crashed(self, how: str) -> None:
        self.crashes += 1
        if len(self.shown) < MOST_SHOWN:
            self.shown.append(how)


def _is_fit(message: str) -> bool:
    """Whether a message says something, in not too many words, and can be printed without harm."""
    message.encode("utf-8")
    commands = re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", message)
    return bool(message.strip()) and len(message) < LONGEST_MESSAGE and not commands


class _TooLong(BaseException):
    """No Exception, so that no code under test takes it for one of its own."""


@contextmanager
def _time_limit() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise _TooLong(f"more than {LONGEST_SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, LONGEST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def change_bytes(content: bytes, draw: random.Random) -> bytes:
    """Returns `content` with a bit turned over, or a stretch of it left out, given twice, or made up."""
    if not content:
        return draw.randbytes(4)
    start = draw.randrange(len(content))
    end = min(len(content), start + draw.choice((1, 2, 8, 64)))
    match draw.randrange(5):
        case 0:
            return content[:start]
        case 1:
            return content[:start] + bytes([content[start] ^ (1 << draw.randrange(8))]) + content[start + 1 :]
        case 2:
            return content[:start] + content[end:]
        case 3:
            return content[:end] + content[start:]
        case _:
            return content[:start] + draw.randbytes(end - start) + content[end:]
