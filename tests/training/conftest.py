"""Runs of a tiny model on a few hundred sentences, each a second or two."""

import json
import os
import shutil
import signal

import pytest

from finetune.training.trainer import ScheduledTrainer


@pytest.fixture
def steady_model(tiny_model, tmp_path):
    """The tiny model without dropout, so that a batch gives the same loss however it is cut."""
    folder = tmp_path / "steady_model"
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def stop_in(monkeypatch):
    """A function that has a SIGTERM sent to this process in the middle of a step of a trainer's `method`, once."""

    def arm(method, when):
        original, sent = getattr(ScheduledTrainer, method), []

        def step(self, *args, **kwargs):
            if not sent and when(self):
                sent.append(True)
                os.kill(os.getpid(), signal.SIGTERM)
            return original(self, *args, **kwargs)

        monkeypatch.setattr(ScheduledTrainer, method, step)

    return arm
