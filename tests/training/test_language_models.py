"""Language models from recipe to model folder: they learn, go on bit for bit, and are of use to others."""

import io
import json
import math
import shutil

import pyarrow.parquet
import pytest
from rich.console import Console
from safetensors.torch import load_file
from transformers import pipeline

from finetune.errors import RunStopped
from finetune.evaluation.record import read_history
from finetune.inference.predictor import load_run
from finetune.recipe import load_recipe
from finetune.training import fine_tune
from finetune.training.material import Library
from finetune.training.preview import preview_run
from finetune.training.run_directory import run_directory
from tests import tiny
from tests.faults import assert_equal_outcomes, outcome

WORDS = tiny.NEUTRAL.split()
CAUSAL = {"name": "causal_language_modelling", "max_length": 32}
MASKED = {"name": "masked_language_modelling", "max_length": 32}
NO_DROPOUT = dict.fromkeys(
    ("hidden_dropout_prob", "attention_probs_dropout_prob", "resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0
)


def successions(count, seed):
    return [{"text": text} for text in tiny.successions(count, seed)]


def repetitions(count, seed):
    """Rows of one of ten words, eight times: what is hidden of them is what isn't."""
    return [{"text": " ".join([WORDS[(seed + number) % 10]] * 8)} for number in range(count)]


def instructions(count, seed):
    pairs = [text.split(" ", 2) for text in tiny.successions(count, seed)]
    return [{"ask": f"{one} {two}", "answer": f" {rest}"} for one, two, rest in pairs]


@pytest.fixture
def language_run(tmp_path):
    """A function that trains a copy of a model, without dropout, for a task on rows; returns its record and place."""

    def run(task, rows, model, *overrides, name="small", **options):
        folder = tmp_path / name
        if not folder.exists():
            folder.mkdir()
            config = json.loads((shutil.copytree(model, folder / "model") / "config.json").read_text())
            (folder / "model" / "config.json").write_text(json.dumps(config | NO_DROPOUT))
            tiny.write_language_recipe(folder, folder / "model", task, rows)
        source = folder / "small.yaml"
        recipe = load_recipe(source, [f"output={folder / 'runs'}", *overrides])
        record = fine_tune(recipe, source=source, console=Console(file=options.pop("out", io.StringIO())), **options)
        return record, run_directory(recipe, source=source)

    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "rows"),
    [
        (CAUSAL, successions),
        (CAUSAL | {"prompt": "ask", "completion": "answer", "max_length": 64}, instructions),
    ],
    ids=["texts", "instructions"],
)
def test_a_causal_model_learns_and_goes_on_with_a_text(language_run, tiny_causal_model, task, rows):
    record, run = language_run(task, rows, tiny_causal_model)
    scores = record.results.splits["test"].metrics
    # All is told by the token before but the first of each text, which is one of 91; chance is 1 in 540.
    assert scores["perplexity"].value < 8
    assert scores["token_accuracy"].value > 0.7
    assert record.results.select == "perplexity"
    first, *_, last = [row["evaluation"]["perplexity"] for row in read_history(run) if "evaluation" in row]
    assert last < first
    table = pyarrow.parquet.read_table(run / "predictions" / "test.parquet").to_pydict()
    tokens = sum(table["tokens"])
    assert math.exp(sum(table["negative_log_likelihood"]) / tokens) == pytest.approx(scores["perplexity"].value)
    assert sum(table["tokens_right"]) / tokens == pytest.approx(scores["token_accuracy"].value)
    writes = pipeline("text-generation", model=str(run / "model"), device="cpu")
    (answer,) = writes(" ".join(WORDS[20:23]), max_new_tokens=8, do_sample=False)
    assert " ".join(WORDS[20:24]) in answer["generated_text"]


@pytest.mark.slow
def test_a_masked_model_learns_and_fills_a_gap(language_run, tiny_model):
    task = MASKED | {"packing": False, "mask": 0.3}
    record, run = language_run(task, repetitions, tiny_model, "training.duration=12ep")
    scores = record.results.splits["test"].metrics
    assert scores["token_accuracy"].value > 0.8  # chance is 1 in 10
    assert scores["perplexity"].value < 2
    fill = pipeline("fill-mask", model=str(run / "model"), device="cpu")
    assert fill("about about about [MASK] about about about about")[0]["token_str"] == "about"


@pytest.mark.slow
def test_a_model_adapted_to_texts_can_be_trained_to_classify(language_run, train, tiny_model):
    record, run = language_run(MASKED, successions, tiny_model, "training.duration=4")
    assert len(record.identity.classes) == 0
    adapted = load_file(run / "model" / "model.safetensors")
    library = Library()
    out = io.StringIO()
    classified, place = train(
        f"model.path={run / 'model'}", "training.duration=1", "optimizer.learning_rate=1e-9", library=library, out=out
    )
    assert classified.status == "finished"
    kept = load_file(place / "model" / "model.safetensors")
    name = "bert.encoder.layer.1.output.dense.weight"
    assert kept[name].numpy() == pytest.approx(adapted[name].numpy(), abs=1e-6)
    assert "new: bert.pooler.dense.bias, bert.pooler.dense.weight, classifier.bias, classifier.weight" in out.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "rows", "kind"),
    [
        (MASKED, successions, "tiny_model"),
        (MASKED | {"packing": False, "whole_words": False}, successions, "tiny_model"),
        (CAUSAL | {"packing": False}, successions, "tiny_causal_model"),
        (CAUSAL | {"prompt": "ask", "completion": "answer", "max_length": 64}, instructions, "tiny_causal_model"),
    ],
    ids=["masked, packed", "masked", "texts", "instructions"],
)
def test_micro_batches_make_the_update_of_the_whole_batch(language_run, request, task, rows, kind):
    model = request.getfixturevalue(kind)
    runs = {
        name: language_run(
            task, rows, model, "training.duration=1ep", f"training.micro_batch_size={size}", f"name={name}"
        )
        for name, size in (("whole", "null"), ("parts", 3))
    }
    assert runs["parts"][0].environment.accumulation == 3
    for key in ("loss", "gradient_norm"):
        whole, parts = ([row[key] for row in read_history(run) if "rates" in row] for _, run in runs.values())
        assert parts == pytest.approx(whole, rel=2e-3)
        assert parts[0] == pytest.approx(whole[0], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_masks_are_the_same_in_a_run_that_was_interrupted_whoever_loads_them(
    language_run, stop_in, tiny_model, workers
):
    settings = (MASKED, successions, tiny_model, "training.duration=3ep", "evaluation.every=1ep")
    _, run = language_run(*settings)
    expected = outcome(run)
    per_epoch = sum("rates" in row for row in read_history(run)) // 3
    # In the middle of the second epoch, where Trainer goes on with a loader of its own.
    stop_in("training_step", lambda trainer: trainer.state.global_step == per_epoch + 3)
    with pytest.raises(RunStopped):
        language_run(*settings, f"training.workers={workers}", repeat=True)
    language_run(*settings, f"training.workers={workers}")
    assert_equal_outcomes(outcome(run), expected)


@pytest.mark.slow
def test_a_model_is_scored_on_later_texts_as_in_its_run(language_run, tiny_causal_model):
    settings = CAUSAL | {"prompt": "ask", "completion": "answer", "max_length": 64}
    _, run = language_run(settings, instructions, tiny_causal_model, "training.duration=3")
    later = instructions(60, 3)  # the test split's
    table = load_run(run)(later).to_pydict()
    written = pyarrow.parquet.read_table(run / "predictions" / "test.parquet").to_pydict()
    assert table["tokens"] == written["tokens"]
    assert table["negative_log_likelihood"] == pytest.approx(written["negative_log_likelihood"], rel=1e-4)


@pytest.mark.slow
def test_evaluations_do_not_depend_on_their_batches(language_run, tiny_model):
    settings = (MASKED, successions, tiny_model, "training.duration=3")
    one, other = (language_run(*settings, f"evaluation.batch_size={size}")[0] for size in (1, 50))
    for split, result in one.results.splits.items():
        for name, score in result.metrics.items():
            assert score.value == pytest.approx(other.results.splits[split].metrics[name].value, rel=1e-5)


@pytest.mark.parametrize("settings", [{"packing": False}, {"prompt": "ask", "completion": "answer", "max_length": 64}])
def test_a_duration_in_tokens_is_what_a_preview_says(language_run, tiny_causal_model, tmp_path, settings):
    rows = instructions if "prompt" in settings else successions
    record, _ = language_run(CAUSAL | settings, rows, tiny_causal_model, "training.duration=500 tokens")
    source = tmp_path / "small" / "small.yaml"
    outlook = preview_run(load_recipe(source, ["training.duration=500 tokens"]), source=source)
    assert outlook.horizon.total_steps == record.schedule.total_steps > 1
    assert outlook.horizon.updates_per_epoch == 25


def test_a_preview_of_packed_texts_leaves_the_updates_open_and_calls_none_cut(tmp_path, tiny_causal_model):
    source = tiny.write_language_recipe(tmp_path, tiny_causal_model, CAUSAL | {"max_length": 8}, successions)
    outlook = preview_run(load_recipe(source, ["data.examples.train=5"]), source=source)
    assert outlook.horizon is None
    train = outlook.splits["train"]
    assert (train.examples, train.used) == (200, 200)
    assert train.tokens.lengths.longest > 8
    assert train.tokens.cut == 0
