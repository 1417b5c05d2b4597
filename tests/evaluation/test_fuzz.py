"""Spoilt records, histories and predictions: each is compared or refused, and none ends in a traceback."""

from tests.spoilt_records import fuzz_records


def test_some_hundred_spoilt_runs_are_compared_or_refused(tmp_path):
    counts = fuzz_records(200, seed=1, folder=tmp_path)
    assert counts.shown == []
    assert (counts.injected, counts.crashes) == (200, 0)
    assert counts.accepted > 10
    assert counts.refused > 10
