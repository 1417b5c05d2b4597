"""Runs over data that is on disk: what they compute, record and say is what it is without a cache."""

import io

import pytest
from safetensors.numpy import load_file

from finetune import data
from finetune.tasks import encoding
from finetune.training import cache

BRIEF = ("training.duration=6", "evaluation.every=null")


@pytest.fixture
def outcome(train, monkeypatch, tmp_path):
    """A function that trains under a setting of FINETUNE_CACHE; returns all that a run leaves, and what it said."""

    def run(folder):
        monkeypatch.setenv(cache.VARIABLE, str(folder))
        out = io.StringIO()
        record, place = train(*BRIEF, repeat=True, out=out)
        files = {path.name: path.read_bytes() for path in (place / "model").iterdir() if path.suffix == ".json"}
        weights = {name: tensor.tobytes() for name, tensor in load_file(place / "model" / "model.safetensors").items()}
        predictions = (place / "predictions" / "test.parquet").read_bytes()
        same = record.model_copy(update={"timing": None, "environment": None})
        return (same, files, weights, predictions), out.getvalue()

    return run


def forbidden(*args, **settings):
    pytest.fail("a text is tokenised again")


@pytest.mark.slow
def test_a_run_is_the_same_with_the_cache_and_without(outcome, monkeypatch, tmp_path):
    without, said = outcome("")
    assert "cache" not in said
    monkeypatch.setattr(data, "LARGE", 0)  # so that the rows are on disk too
    made, said = outcome(tmp_path / "cache")
    assert "cache" not in said
    monkeypatch.setattr(encoding, "tokenise", forbidden)
    read, _ = outcome(tmp_path / "cache")
    assert made == without
    assert read == without


@pytest.mark.slow
def test_a_run_without_room_for_the_cache_says_so_once_and_goes_on(outcome, tmp_path):
    without, _ = outcome("")
    (tmp_path / "file").touch()
    found, said = outcome(tmp_path / "file")
    assert found == without
    assert " ".join(said.split()).count("file: Not a directory; the run goes on without it") == 1
