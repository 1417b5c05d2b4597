"""The tiny model as a source, and its tokenizer; and copies to spoil."""

import shutil

import pytest

from tests import tiny_images


@pytest.fixture(scope="session")
def source(tiny_model):
    from finetune.tasks.pretrained import Pretrained

    return Pretrained(str(tiny_model), local=True)


@pytest.fixture
def folder(tiny_model, tmp_path):
    """A copy of the tiny model, to be spoilt."""
    return shutil.copytree(tiny_model, tmp_path / "model")


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


@pytest.fixture(scope="session")
def squares(tmp_path_factory):
    """A folder with the images of `tiny_images.write_squares`."""
    folder = tmp_path_factory.mktemp("squares")
    tiny_images.write_squares(folder)
    return folder


@pytest.fixture(scope="session")
def vision_model(tmp_path_factory):
    """The folder of a vision transformer of `tiny_images.save_model`."""
    folder = tmp_path_factory.mktemp("vision_model")
    tiny_images.save_model(folder)
    return folder
