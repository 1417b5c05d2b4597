"""The tiny model as a source, and its tokenizer."""

import pytest


@pytest.fixture(scope="session")
def source(tiny_model):
    from finetune.tasks.pretrained import Pretrained

    return Pretrained(str(tiny_model), local=True)


@pytest.fixture
def tokenizer(source):
    from finetune.tasks.pretrained import load_tokenizer

    return load_tokenizer(source, max_length=64)
