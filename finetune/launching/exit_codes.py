"""With what the processes of a run ended, told to the command that launched them: launchers don't pass it on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PLACE = "FINETUNE_EXIT_CODES"
BAD_INPUT = 2
STOPPED = 75  # EX_TEMPFAIL of sysexits.h: try again


@contextmanager
def told_to_launcher() -> Iterator[None]:
    """Tells the launcher, if it asks, with what code this process is about to exit."""
    folder = os.environ.get(PLACE)
    if folder is None:
        yield
        return
    place = Path(folder) / os.environ.get("RANK", "0")
    place.unlink(missing_ok=True)  # that of a process before this one, which was restarted
    try:
        yield
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        with suppress(OSError):  # the launcher is gone, and the folder with it
            place.write_text(str(code), encoding="utf-8")
        raise


def exit_code_of_run(folder: Path, *, launcher: int) -> int:
    """Returns the exit code of a run whose launcher ended with that of its own.

    What one process found wrong with the input all of them would have; a run has stopped in good order where every
    process says so.
    """
    told = {int(path.read_text(encoding="utf-8")) for path in folder.iterdir()}
    if launcher == 0:
        return 0
    if BAD_INPUT in told:
        return BAD_INPUT
    return STOPPED if told == {STOPPED} else launcher
