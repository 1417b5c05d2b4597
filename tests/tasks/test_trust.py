"""A model from a stranger: its code doesn't run unless it is trusted, and nothing but its own folder is read."""

import json
import shutil

import pytest
import torch

from finetune.errors import ModelError
from finetune.tasks.pretrained import Pretrained, load_tokenizer
from tests.tasks.model_folders import CLASSES, TASK, configure, local

CODE = """
from pathlib import Path
Path({trace!r}).touch()
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

class StrangeConfig(BertConfig):
    model_type = "strange"

class StrangeModel(BertForSequenceClassification):
    config_class = StrangeConfig

class StrangeTokenizer(BertTokenizerFast):
    pass
"""
MODEL_MAP = {"AutoConfig": "code.StrangeConfig", "AutoModelForSequenceClassification": "code.StrangeModel"}


@pytest.fixture
def trace(tmp_path):
    """The file that is made if the model's code runs."""
    return tmp_path / "ran"


@pytest.fixture
def with_code(folder, trace, monkeypatch):
    """Puts code into the model's folder that its files refer to; `model_type` is None where it is the code's own."""
    # Where transformers keeps copies of the code that it runs.
    modules = folder.parent / "modules"
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(modules))
    monkeypatch.syspath_prepend(modules)

    def put(model_type="bert", file="config.json", auto_map=MODEL_MAP):
        (folder / "code.py").write_text(CODE.format(trace=str(trace)))
        configure(folder, file, auto_map=auto_map, **({"model_type": model_type} if file == "config.json" else {}))
        return folder

    return put


def load(folder, **trust):
    source = local(folder, **trust)
    source.check()
    tokenizer = load_tokenizer(source, max_length=32)
    return TASK.load_model(source, classes=CLASSES, processor=tokenizer, seed=0).model


def test_code_of_a_model_that_is_known_without_it_does_not_run(with_code, trace):
    assert type(load(with_code())).__module__ == "transformers.models.bert.modeling_bert"
    assert not trace.exists()


def test_a_model_that_needs_its_code_is_refused_with_the_flag(with_code, trace):
    with pytest.raises(ModelError, match="runs code that comes with it: read it, and pass --trust-remote-code if you"):
        load(with_code(model_type="strange"))
    assert not trace.exists()


def test_code_of_a_tokenizer_does_not_run(with_code, trace):
    tokenizer_map = {"AutoTokenizer": [None, "code.StrangeTokenizer"]}
    folder = with_code(file="tokenizer_config.json", auto_map=tokenizer_map)
    configure(folder, "tokenizer_config.json", tokenizer_class="StrangeTokenizer")
    try:
        load(folder)
    except ModelError as error:
        assert "--trust-remote-code" in str(error)  # noqa: PT017 - either will do
    assert not trace.exists()


def test_no_other_code_of_a_folder_runs(folder, trace):
    run = f"open({str(trace)!r}, 'w')"
    for name in ("__init__.py", "modeling_bert.py", "tokenization_bert.py", "custom_generate/generate.py", "setup.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(run)
    (folder / "chat_template.jinja").write_text("{{ cycler.__init__.__globals__.os.mkdir('x') }}")
    load(folder)
    assert not trace.exists()


def test_code_that_is_trusted_runs(with_code, trace):
    model = load(with_code(model_type="strange"), trust_remote_code=True)
    assert type(model).__name__ == "StrangeModel"
    assert trace.exists()


class Trap:
    """Runs something when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return open, (str(self.trace), "w")


@pytest.mark.parametrize("kept", [True, False], ids=["beside safetensors", "alone"])
def test_a_pickle_is_never_opened(folder, trace, kept):
    for name in ("pytorch_model.bin", "training_args.bin", "adapter_model.bin", "optimizer.pt"):
        torch.save(Trap(trace), folder / name)
    if kept:
        load(folder)
    else:
        (folder / "model.safetensors").unlink()
        with pytest.raises(ModelError, match="pickled weights aren't read"):
            load(folder)
    assert not trace.exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "../model.safetensors", "/etc/passwd", "x/y.safetensors"])
def test_an_index_names_safetensors_of_the_folder_and_nothing_else(folder, trace, name):
    torch.save(Trap(trace), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {"embeddings.word_embeddings.weight": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"each must be a \.safetensors file of the same folder") as caught:
        load(folder)
    assert f"names weights in {name}" in str(caught.value)
    assert not trace.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"weight_map": [1]}', "[" * 100_000])
def test_a_broken_index_is_named(folder, text):
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ModelError, match=r"model\.safetensors\.index\.json: is no index of weights"):
        local(folder).check()


def test_weights_that_the_config_names_are_safetensors(folder, trace):
    torch.save(Trap(trace), folder / "adapter_model.bin")
    configure(folder, transformers_weights="adapter_model.bin")
    with pytest.raises(ModelError, match=r"names adapter_model\.bin as its weights"):
        load(folder)
    assert not trace.exists()


@pytest.mark.parametrize(
    "settings",
    [
        {"attn_implementation": "stranger/kernel"},
        {"_attn_implementation": "stranger/kernel@main:run"},
        {"_attn_implementation_internal": "stranger/kernel"},
        {"attn_implementation": {"": "sdpa", "text_config": "stranger/kernel"}},
        {"text_config": {"attn_implementation": "stranger/kernel"}},
        {"experts_implementation": "stranger/kernel"},
    ],
)
def test_compiled_code_from_the_hub_is_refused(folder, settings):
    configure(folder, **settings)
    with pytest.raises(
        ModelError, match=r"has compiled code of stranger/kernel.* pass --trust-remote-code if you trust"
    ):
        load(folder)


def test_attention_that_transformers_has_is_allowed(folder):
    configure(folder, attn_implementation="eager")
    assert load(folder).config._attn_implementation == "eager"


@pytest.mark.parametrize("name", ["vocab.txt", "model.safetensors", "deep/er.txt"])
def test_a_link_out_of_the_folder_is_refused(folder, tmp_path, name):
    secret = tmp_path / "id_rsa"
    secret.write_text("secret")
    (folder / name).unlink(missing_ok=True)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).symlink_to(secret)
    if name == "model.safetensors":
        (folder / "model.safetensors.index.json").write_text('{"weight_map": {}}')
    with pytest.raises(
        ModelError, match=f"is a link to {secret}, out of the model's folder; put the file itself there"
    ):
        local(folder).check()


def test_a_link_to_a_folder_outside_is_refused(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (folder / "1_Pooling").symlink_to("../elsewhere", target_is_directory=True)
    with pytest.raises(ModelError, match="1_Pooling: is a link to"):
        local(folder).check()


def test_links_within_the_folder_and_to_the_folder_are_followed(folder, tmp_path):
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    (folder / "model.safetensors").symlink_to("weights.safetensors")
    (tmp_path / "link").symlink_to(folder, target_is_directory=True)
    load(tmp_path / "link")


def test_a_snapshot_in_the_cache_of_the_hub_is_a_folder(folder, tmp_path):
    repository = tmp_path / "models--org--name"
    shutil.copytree(folder, repository / "snapshots" / "0123")
    (repository / "blobs").mkdir()
    (repository / "snapshots" / "0123" / "config.json").rename(repository / "blobs" / "abc")
    (repository / "snapshots" / "0123" / "config.json").symlink_to("../../blobs/abc")
    load(repository / "snapshots" / "0123")


def test_links_that_form_a_loop_are_no_crash(folder):
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to("a")
    local(folder).check()


def test_a_folder_is_not_taken_for_a_repository_of_its_name(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    with pytest.raises(
        ModelError, match=r"model: is a folder here, not a repository \(model\.hub\); for it write model\.path"
    ):
        Pretrained("model").check()
