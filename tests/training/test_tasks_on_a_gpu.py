"""Every task, adapters and layers on a GPU, beside the same run on the CPU."""

import io
import random

import pytest
import torch
from rich.console import Console

from finetune.evaluation.record import read_history
from finetune.recipe import load_recipe
from finetune.training import fine_tune, run_directory
from tests import tiny, tiny_images

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is visible")

ALONE = ("regularisation={dropout: 0}", "training.duration=12", "checkpoints.every=null", "evaluation.every=null")
EITHER_WAY = pytest.mark.parametrize("execution", [(), ("training.cuda_graphs=true",)], ids=["", "graphs"])
UNFREEZING = "layers={unfreeze: {every: 3}, rate_decay: 0.5, freeze: [word_embeddings]}"


def to_choose(count, seed):
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        choices, label = draw.choices(tiny.BAD.split(), k=3), draw.randrange(3)
        choices[label] = draw.choice(tiny.GOOD.split())
        rows.append({"choices": choices, "label": label})
    return rows


def to_answer(count, seed):
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        words, answer = draw.choices(tiny.NEUTRAL.split(), k=12), draw.choice(tiny.GOOD.split())
        words[draw.randrange(12)] = answer
        context = " ".join(words)
        answers = {"text": [answer], "answer_start": [context.index(answer)]}
        rows.append({"question": "what is the film", "context": context, "answers": answers})
    return rows


def successions(count, seed):
    return [{"text": text} for text in tiny.successions(count, seed)]


TASKS = {
    "text_classification": ("text: sentence, label: label, max_length: 32", tiny.sentences),
    "text_regression": ("text: sentence, label: rating, max_length: 32", tiny.rated),
    "multi_label": ("text: sentence, label: labels, max_length: 32", tiny.labelled),
    "token_classification": ("max_length: 32", tiny.tagged),
    "multiple_choice": ("max_length: 32", to_choose),
    "question_answering": ("max_length: 32, stride: 8", to_answer),
    "masked_language_modelling": ("max_length: 32", successions),
    "causal_language_modelling": ("max_length: 32", successions),
}


@pytest.fixture
def beside_the_cpu(monkeypatch):
    """A function that trains by a recipe's file on the CPU and on the GPU; returns the records and the losses of both."""

    def run(path, *settings, on_the_gpu=()):
        records, losses = [], []
        for on_cpu in (True, False):
            monkeypatch.setenv("ACCELERATE_USE_CPU", str(on_cpu).lower())
            further = () if on_cpu else on_the_gpu
            recipe = load_recipe(path, [f"output={path.parent / str(on_cpu)}", *ALONE, *settings, *further])
            records.append(fine_tune(recipe, source=path, console=Console(file=io.StringIO())))
            history = read_history(run_directory(recipe, source=path))
            losses.append([row["loss"] for row in history if "rates" in row])
        assert records[1].environment.device != records[0].environment.device
        return records, losses

    return run


@pytest.fixture
def recipe_of(tmp_path, tiny_model, tiny_causal_model):
    """A function that writes the recipe of a task on the tiny model, with its data; returns its path."""

    def write(name):
        settings, rows = TASKS[name]
        splits = {
            split: rows(count, seed) for seed, (split, count) in enumerate({"train": 192, "validation": 40}.items())
        }
        model = tiny_causal_model if name.startswith("causal") else tiny_model
        return tiny.write_task_recipe(tmp_path, model, f"{{name: {name}, {settings}}}", splits)

    return write


def assert_alike(records, losses, *, within=2e-3):
    assert [record.status for record in records] == ["finished"] * 2
    assert losses[1] == pytest.approx(losses[0], abs=within, rel=within)
    for name, score in records[0].results.splits["validation"].metrics.items():
        assert records[1].results.splits["validation"].metrics[name].value == pytest.approx(
            score.value, rel=0.1, abs=0.1
        )


@pytest.mark.parametrize("name", TASKS)
@EITHER_WAY
def test_a_task_follows_the_cpu(beside_the_cpu, recipe_of, name, execution):
    records, losses = beside_the_cpu(recipe_of(name), on_the_gpu=execution)
    assert_alike(records, losses)


def test_images_follow_the_cpu(beside_the_cpu, tmp_path):
    pytest.importorskip("PIL", reason="images need the extra finetune-schedules[images]")
    tiny_images.save_model(tmp_path / "model")
    tiny_images.write_squares(tmp_path / "squares")
    path = tiny_images.write_recipe(tmp_path, tmp_path / "model")
    assert_alike(*beside_the_cpu(path, "optimizer.learning_rate=1e-3"))


@EITHER_WAY
@pytest.mark.parametrize("adapter", ["{rank: 4}", "{rank: 4, dora: true, rslora: true}"], ids=["lora", "dora"])
def test_adapters_follow_the_cpu(beside_the_cpu, recipe_of, adapter, execution):
    pytest.importorskip("peft", reason="adapters need the extra finetune-schedules[adapters]")
    path = recipe_of("text_classification")
    assert_alike(*beside_the_cpu(path, f"adapter={adapter}", on_the_gpu=execution))


def test_unfreezing_follows_the_cpu(beside_the_cpu, recipe_of):
    path = recipe_of("text_classification")
    assert_alike(*beside_the_cpu(path, UNFREEZING))


def test_averages_follow_the_cpu(beside_the_cpu, recipe_of):
    path = recipe_of("text_classification")
    assert_alike(*beside_the_cpu(path, "averaging={ema: {decay: 0.9}}"))
