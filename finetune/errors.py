"""The errors a user can cause. Each carries one message that names the place, the value, the rule and the remedy.

The command line prints the message and exits with code 2; a library user catches `FinetuneError`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from pathlib import Path

from finetune.untrusted import presentable


class FinetuneError(Exception):
    """Base of every error that a change of input, rather than of code, can mend; its message is `presentable`.

    `is_told`: whether the other processes of a run know of it.
    """

    is_told = False

    def __init__(self, *arguments: object) -> None:
        super().__init__(*(presentable(each) if isinstance(each, str) else each for each in arguments))


class SettingError(FinetuneError, ValueError):
    """A setting whose value breaks a rule: `field` is its name, as in a recipe; `problem` the message without it."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(field, problem)  # both in args, so that pickle can carry it between processes
        self.field: str = self.args[0]
        self.problem: str = self.args[1]

    def __str__(self) -> str:
        return f"{self.field}: {self.problem}" if self.field else self.problem

    @property
    def all(self) -> tuple[SettingError, ...]:
        """Each problem by itself: this one, unless it stands for several."""
        return (self,)

    def within(self, block: str) -> SettingError:
        """Returns the same problem of a setting in the block called `block`."""
        return SettingError(f"{block}.{self.field}" if self.field else block, self.problem)


class SettingErrors(SettingError):  # noqa: N818 - a plural
    """Several settings that break rules; `field` and `problem` are those of the first."""

    def __init__(self, errors: Sequence[SettingError]) -> None:
        super().__init__(errors[0].field, errors[0].problem)
        self.args = (tuple(errors),)

    def __str__(self) -> str:
        return "; ".join(map(str, self.all))

    @property
    def all(self) -> tuple[SettingError, ...]:
        """Each problem by itself."""
        errors: tuple[SettingError, ...] = self.args[0]
        return errors

    def within(self, block: str) -> SettingError:
        """Returns the same problems of settings in the block called `block`."""
        return SettingErrors([error.within(block) for error in self.all])


@contextmanager
def settings_within(block: str) -> Iterator[None]:
    """Puts `block` before the setting that a SettingError on its way out names."""
    try:
        yield
    except SettingError as error:
        raise error.within(block) from error


class RecipeError(FinetuneError):
    """A recipe that can't be used; the message lists every problem, each with its file and line."""


class DataError(FinetuneError):
    """Data that is missing, unreadable or unfit for the task."""


class ModelError(FinetuneError):
    """A model or tokenizer that is missing, incomplete or unfit for the task."""


class HubError(FinetuneError):
    """The Hub, which can't be reached, or refuses what is asked of it."""


class RecordError(FinetuneError):
    """A run directory that can't be written, or a record that can't be read."""


class ResumeError(FinetuneError):
    """A run that was saved under another schedule, horizon or peak than it is to be gone on with."""


class RunError(FinetuneError):
    """A run that ended by what befell one of its processes: its memory ran out, or another process is gone."""


class RunStopped(BaseException):
    """A run that stopped in good order, and goes on when it is started again; no error, so none catches it as one.

    `reason`: in a few words; `step`: the updates made, all of them in a checkpoint; None between the runs of a study.
    """

    def __init__(self, reason: str, step: int | None = None) -> None:
        super().__init__(reason, step)
        self.reason = reason
        self.step = step

    def __str__(self) -> str:
        place = "" if self.step is None else f" after update {self.step}"
        return f"stopped{place}, on {self.reason}; the same command goes on from there"


class DeviceError(FinetuneError):
    """A setting that the hardware or the number of processes can't satisfy."""


def did_you_mean(word: str, choices: Collection[str]) -> str:
    """Returns " (did you mean X?)" for the choice nearest to `word`, or "" where none is near."""
    return _did_you_mean(word, tuple(choices))


@lru_cache(maxsize=4096)  # each setting of a study may have the same thousand unknown keys
def _did_you_mean(word: str, choices: tuple[str, ...]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(word.casefold(), {choice.casefold(): choice for choice in choices}, n=1, cutoff=0.6)
    if not near:
        return ""
    original = next(choice for choice in choices if choice.casefold() == near[0])
    return f" (did you mean {listed([original])}?)"


def did_you_mean_path(path: Path) -> str:
    """Returns `did_you_mean` for a path that isn't there, by what lies where it would."""
    try:
        beside = [each.name for each in path.parent.iterdir()]
    except OSError:
        return ""
    return did_you_mean(path.name, beside)


def counted(count: int, noun: str) -> str:
    """Returns "1 run", "2 runs"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(names: Collection[str], *, most: int = 20) -> str:
    """Returns the first `most` of `names`, long ones cut, those that print badly in quotes."""
    shown = [name if len(name) <= 40 else f"{name[:40]}…" for name in islice(names, most)]
    plain = [name if name and name.isprintable() and name == name.strip() else repr(name) for name in shown]
    return ", ".join(plain) + (f" and {len(names) - most:,} more" if len(names) > most else "")
