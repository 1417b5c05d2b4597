"""Two runs in one directory exclude each other, and a dead one is no obstacle."""

import os
import signal
import subprocess
import sys

import pytest

from finetune.errors import RecordError
from finetune.training.run_lock import LOCK, held


def test_a_directory_is_free_again_afterwards(tmp_path):
    for _ in range(2):
        with held(tmp_path):
            assert (tmp_path / LOCK).read_text().startswith(f"process {os.getpid()} on ")
        assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_gone_hides_no_error(tmp_path, monkeypatch):
    def gone(self, missing_ok=False):
        raise OSError(5, "Input/output error")

    def fail():
        monkeypatch.setattr("pathlib.Path.unlink", gone)
        raise RecordError("what was told")

    with pytest.raises(RecordError, match="what was told"), held(tmp_path):
        fail()


def test_a_second_run_is_refused_and_told_of_the_first(tmp_path):
    with held(tmp_path):
        with pytest.raises(RecordError, match=rf"process {os.getpid()} on .* is at work in it"), held(tmp_path):
            pass
        assert (tmp_path / LOCK).exists()


HOLDER = """
import sys, time
from pathlib import Path
from finetune.errors import RecordError
from finetune.training.run_lock import held
run, seconds = Path(sys.argv[1]), float(sys.argv[2])
while True:
    try:
        with held(run):
            with (run / "entered").open("a") as file:
                file.write("in\\n")
            print("in", flush=True)
            time.sleep(seconds)
            with (run / "entered").open("a") as file:
                file.write("out\\n")
        break
    except RecordError:
        time.sleep(0.001)
"""


def holder(run, seconds):
    return subprocess.Popen([sys.executable, "-c", HOLDER, str(run), str(seconds)], stdout=subprocess.PIPE, text=True)


def test_a_run_that_was_killed_is_no_obstacle(tmp_path):
    with holder(tmp_path, 60) as other:
        assert other.stdout.readline() == "in\n"
        with pytest.raises(RecordError, match=rf"process {other.pid} on "), held(tmp_path):
            pass
        other.send_signal(signal.SIGKILL)
        other.wait()
        with held(tmp_path):
            pass


@pytest.mark.slow
def test_of_eight_at_the_same_time_never_two_are_in(tmp_path):
    others = [holder(tmp_path, 0.05) for _ in range(8)]
    assert [other.wait(120) for other in others] == [0] * 8
    for other in others:
        other.stdout.close()
    assert (tmp_path / "entered").read_text().split() == ["in", "out"] * 8
