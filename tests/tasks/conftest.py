"""The tiny model as a source, and its tokenizer."""

import pytest


@pytest.fixture(scope="session")
def source(tiny_model):
    from finetune.tasks.pretrained import Pretrained

    return Pretrained(str(tiny_model), local=True)


@pytest.fixture(scope="session")
def causal_source(tiny_causal_model):
    from finetune.tasks.pretrained import Pretrained

    return Pretrained(str(tiny_causal_model), local=True)


@pytest.fixture
def causal_tokenizer(causal_source):
    from finetune.tasks.pretrained import load_tokenizer

    return load_tokenizer(causal_source, max_length=64)


@pytest.fixture
def tokenizer(source):
    from finetune.tasks.pretrained import load_tokenizer

    return load_tokenizer(source, max_length=64)
