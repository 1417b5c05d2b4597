"""Faults of the file system under runs as users launch them: each is mended, and the run gone on with and compared."""

import fcntl
import os
import random
import re
import signal
import struct
import subprocess
import tempfile
import time
import traceback
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from finetune.evaluation.record import HISTORY, RECORD
from tests.faults import Faults, assert_equal_runs, finish, start, wait_for_updates

EVERY = 20  # updates from one checkpoint to the next
LINES = 403  # of the history of a whole run
SIZE = 1240  # KiB that a run takes up at most
LATEST = 10.0  # seconds after the last update, by when a file system has written names but not yet all content
ROOMY, AMPLE = "4m", "64m"
SHUT_DOWN, LOSING_WHAT_WAITS = 0x8004587D, 2  # EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH


@contextmanager
def mounted(folder, *arguments):
    """Mounts on `folder` what the arguments of mount name, and unmounts it in the end."""
    _mount(*arguments, folder)
    try:
        yield
    finally:
        _unmount(folder)


def _mount(*arguments):
    subprocess.run(["mount", *map(str, arguments)], check=True, capture_output=True, text=True)


def _unmount(folder):
    """Takes a mount away at once, whoever is at work in it."""
    subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True)


def _make_image(path):
    """Returns the arguments that mount a new, empty file system in the file `path`."""
    with path.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", str(path)], check=True, capture_output=True, text=True)
    return "-t", "ext4", "-o", "loop", path


def why_not(disturb):
    """Returns in words why `disturb` can't be tried here; None where it can: nothing mounts without the rights."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "mount")
        folder.mkdir()
        try:
            on_image = disturb in (fail_disk, lose_power)
            with mounted(folder, *(_make_image(Path(name, "image")) if on_image else ("-t", "tmpfs", "tmpfs"))):
                return None
        except FileNotFoundError as error:
            return f"there is no {error.filename}"
        except subprocess.CalledProcessError as error:
            return error.stderr.strip()


@dataclass
class Disturbed:
    """A run that writes to `disk`, which is disturbed, and `faults`, which count what became of it."""

    command: tuple[str, ...]
    recipe: Path
    disk: Path
    undisturbed: Path
    draw: random.Random
    faults: Faults
    was_hit: bool = False

    def run(self, hit=None):
        """Runs to the end; `hit` is called with the process at a random moment of it, or seconds after."""
        self.process = start(self.command, self.recipe, self.disk / "runs", every=EVERY)
        try:
            if hit is not None:
                moment = self.draw.randint(0, LINES + 100)
                wait_for_updates(self.disk, min(LINES, moment), process=self.process)
                time.sleep(self.draw.random() * (0.3 if moment < LINES else LATEST))
                self.saved, self.was_hit = _saved(self.disk), True
                hit(self.process)
            self.text, _ = self.process.communicate(timeout=300)
        finally:
            self.process.kill()
        if hit is None:
            self.saved = _saved(self.disk)

    def go_on(self):
        """Runs the same command again, the disk being mended, and counts what came of it; nothing if nothing befell."""
        if self.process.returncode == 0 and not self.was_hit:
            return
        self.faults.injected += 1
        try:
            assert self.process.returncode in (0, -signal.SIGKILL) or self._ended_in_words(), (
                f"exit code {self.process.returncode}: {self.text}"
            )
            run, text = finish(self.command, self.recipe, self.disk / "runs", every=EVERY)
            assert "passed over" not in text, text
            assert_equal_runs(run, self.undisturbed)
        except AssertionError:
            traceback.print_exc()
            self.faults.altered += 1
            return
        resumed = re.search(r"after update (\d+), from", text)
        is_lost = "already recorded" not in text and self.saved > (int(resumed[1]) if resumed else 0)
        self.faults.lost += is_lost
        self.faults.survived += not is_lost

    def _ended_in_words(self):
        messages = re.findall(r"^finetune: ", self.text, re.MULTILINE)
        return self.process.returncode == 2 and len(messages) == 1 and "Traceback" not in self.text


def _saved(disk):
    """Returns the update of the checkpoint that must be there: the last before the last update of the history."""
    for history in disk.rglob(HISTORY):
        if not (history.parent / RECORD).exists():
            return max(0, history.read_text().count('"rates"') - 1) // EVERY * EVERY
    return 0


def fill_disk(run):
    """The disk is too small for what the run writes, or another program fills it; then it is enlarged."""
    is_small = run.draw.random() < 0.5
    size = f"{run.draw.randint(4, SIZE)}k" if is_small else ROOMY
    with mounted(run.disk, "-t", "tmpfs", "-o", f"size={size}", "tmpfs"):
        run.run(None if is_small else lambda _: _fill_up(run.disk))
        _mount("-o", f"remount,size={AMPLE}", run.disk)
        run.go_on()


def _fill_up(disk):
    with suppress(OSError), (disk / "other").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def lose_mount(run):
    """The disk is unmounted while the run is at work in it; then it is mounted again."""
    real = run.disk.with_name("real")
    real.mkdir()
    with mounted(run.disk, "--bind", real):
        run.run(lambda _: _unmount(run.disk))
    with mounted(run.disk, "--bind", real):
        run.go_on()


def fail_disk(run):
    """The disk refuses to be read or written, and comes back with what had been flushed."""
    image = _make_image(run.disk.with_name("image"))
    with mounted(run.disk, *image):
        run.run(lambda _: _shut_down(run.disk))
    with mounted(run.disk, *image):
        run.go_on()


def lose_power(run):
    """The run is gone, and the disk comes back with what had been flushed."""
    image = _make_image(run.disk.with_name("image"))
    with mounted(run.disk, *image):
        run.run(lambda process: (process.kill(), _shut_down(run.disk)))
    with mounted(run.disk, *image):
        run.go_on()


def _shut_down(disk):
    descriptor = os.open(disk, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, SHUT_DOWN, struct.pack("I", LOSING_WHAT_WAITS))
    finally:
        os.close(descriptor)


def disturb_disks(disturb, command, recipe, folder, *, undisturbed, count, seed):
    """Has `disturb` befall `count` runs of `command`; returns what became of them, beside the `undisturbed` one."""
    draw, faults = random.Random(seed), Faults()
    while faults.injected < count:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            disk = Path(name, "disk")
            disk.mkdir()
            disturb(Disturbed(command, recipe, disk, undisturbed, draw, faults))
    return faults


DISTURBANCES = {
    "a disk that fills": fill_disk,
    "a mount that is lost": lose_mount,
    "a disk that fails": fail_disk,
    "a machine that loses power": lose_power,
}
