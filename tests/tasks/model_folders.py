"""Folders of models, to be spoilt and loaded."""

import json

from finetune.tasks import TextClassification
from finetune.tasks.pretrained import Pretrained

TASK = TextClassification(text="sentence", max_length=32)
CLASSES = ("negative", "positive")


def local(folder, **trust):
    """Returns a folder as the source of a model."""
    return Pretrained(str(folder), local=True, **trust)


def configure(folder, file="config.json", **settings):
    """Changes settings in a file of the folder."""
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def halve(path):
    """Cuts a file in the middle."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
