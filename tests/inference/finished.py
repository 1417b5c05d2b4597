"""What is read of a finished run of the tests, and changed in a copy of one."""

import json
from contextlib import contextmanager

from pyarrow import parquet


def recorded(run, split="test"):
    """Returns the table of the predictions that the run recorded."""
    return parquet.read_table(run / "predictions" / f"{split}.parquet")


def texts_of(run):
    """Returns the texts of its test split."""
    return parquet.read_table(run.parents[2] / "test.parquet").column("sentence").to_pylist()


@contextmanager
def record_of(run):
    """Yields the record of the run, and writes what was made of it."""
    path = run / "record.json"
    record = json.loads(path.read_text())
    yield record
    path.write_text(json.dumps(record))
