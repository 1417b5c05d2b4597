"""Records written and read at the same time: none is lost, and none is read in part."""

import subprocess
import sys
import time

import pytest

from finetune.errors import RecordError
from finetune.evaluation.record import read_record, write_record
from finetune.evaluation.runs import read_runs

PROCESSES, EACH = 16, 15

WRITER = """
import sys
from pathlib import Path
from finetune.evaluation.record import read_record, write_record
folder, number, each = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
record = read_record(folder / "template")
for seed in range(number * each, (number + 1) * each):
    run = folder / "runs" / str(seed)
    run.mkdir(parents=True)
    identity = record.identity.model_copy(update={"seed": seed})
    recipe = record.recipe | {"training": record.recipe["training"] | {"seed": seed}}
    for _ in range(3):
        write_record(run, record.model_copy(update={"identity": identity, "recipe": recipe}))
"""


@pytest.mark.slow
def test_sixteen_processes_that_write_records_lose_none_while_they_are_read(make_record, tmp_path):
    (tmp_path / "template").mkdir()
    write_record(tmp_path / "template", make_record("cosine", 0.8))
    template = read_record(tmp_path / "template")
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(number), str(EACH)])
        for number in range(PROCESSES)
    ]
    seen = 0
    until = time.monotonic() + 120
    while any(writer.poll() is None for writer in writers) and time.monotonic() < until:
        try:
            runs = read_runs([tmp_path / "runs"])
        except RecordError as error:
            assert "no such directory" in str(error) or "no record" in str(error)  # noqa: PT017 - the two that may be
            continue
        assert len(runs) >= seen
        assert all(run.record.results == template.results for run in runs)
        seen = len(runs)
    assert [writer.wait(60) for writer in writers] == [0] * PROCESSES
    seeds = sorted(run.record.identity.seed for run in read_runs([tmp_path / "runs"]))
    assert seeds == list(range(PROCESSES * EACH))
