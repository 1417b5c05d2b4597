"""Runs of a tiny model on a few hundred sentences, each a second or two."""

import json
import shutil

import pytest


@pytest.fixture
def steady_model(tiny_model, tmp_path):
    """The tiny model without dropout, so that a batch gives the same loss however it is cut."""
    folder = tmp_path / "steady_model"
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return folder
