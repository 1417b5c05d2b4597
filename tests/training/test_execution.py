"""How a model's passes are executed: what is compiled, and what is refused."""

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from finetune.errors import DeviceError
from finetune.recipe import load_recipe
from finetune.training import layout
from finetune.training.compiling import blocks, compile_blocks
from finetune.training.execution import check_execution, prepare_execution
from finetune.training.layout import Layout

COMPILING = pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")  # in torch, on import


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.experts = torch.nn.ModuleList([torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)])


class Repeating(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList([Block(), Block(), Block()])
        self.mixed = torch.nn.ModuleList([torch.nn.Linear(2, 2), torch.nn.ReLU()])
        self.single = torch.nn.ModuleList([torch.nn.Linear(2, 2)])


def test_blocks_are_the_outermost_that_a_model_repeats():
    model = Repeating()
    assert blocks(model) == list(model.layers)


def test_a_model_that_repeats_nothing_is_one_block():
    model = torch.nn.Linear(2, 2)
    assert blocks(model) == [model]


@COMPILING
def test_compiling_leaves_names_and_other_modules_as_they_are():
    model = Repeating()
    names = list(model.state_dict())
    compile_blocks(model)
    assert list(model.state_dict()) == names
    assert [block._compiled_call_impl is not None for block in model.layers] == [True] * 3
    assert model._compiled_call_impl is None


@COMPILING
def test_nothing_is_compiled_unless_asked_for(small_recipe):
    model = Repeating()
    place = {"device": torch.device("cpu"), "precision": "fp32"}
    prepare_execution(model, load_recipe(small_recipe), **place)
    assert all(block._compiled_call_impl is None for block in model.layers)
    prepare_execution(model, load_recipe(small_recipe, ["training.compile=true"]), **place)
    assert all(block._compiled_call_impl is not None for block in model.layers)


@pytest.mark.parametrize(
    ("settings", "place", "message"),
    [
        ([], {"device": torch.device("cpu")}, "needs an NVIDIA GPU, and this run is on cpu"),
        ([], {"processes": 2}, "is for one process, and there are 2"),
        ([], {"accumulation": 2}, "can't add up the gradients of micro-batches"),
        (["training.on_out_of_memory=halve"], {}, "can't be had with on_out_of_memory: halve"),
    ],
)
def test_graphs_are_refused_where_they_cant_be_had(small_recipe, settings, place, message):
    where = {"processes": 1, "rank": 0, "device": torch.device("cuda", 0), "accumulation": 1, "micro_batch_size": 16}
    recipe = load_recipe(small_recipe, ["training.cuda_graphs=true", *settings])
    with pytest.raises(DeviceError, match=message):
        check_execution(recipe, Layout(**where | place))
    check_execution(load_recipe(small_recipe, settings), Layout(**where | place))


def test_a_process_without_a_gpu_of_its_own_is_refused(monkeypatch):
    monkeypatch.delenv("ACCELERATE_USE_CPU")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert layout.lay_out(batch_size=8, largest_micro_batch=None).device == torch.device("cuda", 0)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(DeviceError, match="2 processes or more were launched on a machine where 1 GPU can be seen"):
        layout.lay_out(batch_size=8, largest_micro_batch=None)


def test_settings_that_are_off_leave_a_run_where_it_was(small_recipe):
    from finetune.training.run_directory import run_directory

    def place(*settings):
        return run_directory(load_recipe(small_recipe, settings), source=small_recipe)

    assert place("training.compile=false", "training.cuda_graphs=false") == place()
    assert place("training.cuda_graphs=true") == place()  # up to rounding it is the same run
    assert place("training.compile=true") != place()  # other masks of dropout are drawn


@pytest.mark.parametrize(
    ("settings", "precision", "dropout", "device", "kernel"),
    [
        ([], "bf16", 0.0, "cpu", "eager"),
        ([], "fp32", 0.0, "cpu", "sdpa"),
        ([], "bf16", 0.1, "cpu", "sdpa"),
        ([], "bf16", 0.0, "cuda", "sdpa"),
        (["task.max_length=129"], "bf16", 0.0, "cpu", "sdpa"),
        (["training.fast_dropout=true"], "bf16", 0.0, "cpu", "attention_with_fast_dropout"),
    ],
)
def test_attention_is_made_of_products_where_that_is_faster(
    small_recipe, tiny_model, settings, precision, dropout, device, kernel
):
    model = AutoModelForSequenceClassification.from_pretrained(tiny_model, attention_probs_dropout_prob=dropout)
    prepare_execution(model, load_recipe(small_recipe, settings), device=torch.device(device), precision=precision)
    assert model.config._attn_implementation == kernel
