"""Estimates of recipes: of every task's model, by its configuration alone, and what `finetune check` says of them."""

import json
import subprocess
import sys

import pytest

from finetune.errors import DeviceError
from finetune.estimates.architecture import architecture_of
from finetune.estimates.memory import estimate_memory, split_batch
from finetune.recipe import load_recipe
from finetune.training.material import Library
from tests import tiny, tiny_images

TEXTS = [{"text": each["sentence"], **each} for each in tiny.sentences(40, seed=1)]
TASKS = {
    "{name: text_classification, text: text, max_length: 32}": TEXTS,
    "{name: text_regression, text: sentence, label: rating, max_length: 32}": tiny.rated(40, seed=1),
    "{name: multi_label, text: sentence, label: labels, max_length: 32}": tiny.labelled(40, seed=1),
    "{name: token_classification, max_length: 32}": tiny.tagged(40, seed=1),
    "{name: masked_language_modelling, max_length: 32}": TEXTS,
    "{name: multiple_choice, choices: [text, sentence], max_length: 32}": TEXTS,
    "{name: question_answering, question: text, context: sentence, max_length: 64, stride: 16}": [
        {**each, "answers": {"text": [each["sentence"].split()[0]], "answer_start": [0]}} for each in TEXTS
    ],
}


def written(folder, model, task, rows):
    return load_recipe(tiny.write_task_recipe(folder, model, task, {"train": rows, "validation": rows[:10]}), [])


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task[7:20])
def test_every_task_is_estimated_by_the_configuration_of_its_model(task, tmp_path, tiny_model):
    recipe, library = written(tmp_path, tiny_model, task, TASKS[task]), Library()
    usage = estimate_memory(recipe, library.data(recipe)).usage
    model = library.model(recipe).model
    buffers = sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert usage.parameters == usage.trained == parameters
    blocks = len([*model.parameters(), *model.buffers()])
    assert 4 * parameters + buffers <= usage.weights < 4 * parameters + buffers + 512 * blocks
    assert usage.activations > 0


def test_a_causal_model_is_estimated(tmp_path, tiny_causal_model):
    recipe = written(tmp_path, tiny_causal_model, "{name: causal_language_modelling, max_length: 32}", TEXTS)
    architecture = architecture_of(recipe, Library().data(recipe))
    assert (architecture.tokens, architecture.padded) == (32, False)
    assert estimate_memory(recipe, Library().data(recipe)).usage.activations > 0


def test_a_vision_model_is_estimated(tmp_path):
    tiny_images.write_squares(tmp_path / "squares")
    tiny_images.save_model(tmp_path / "model")
    recipe = load_recipe(tiny_images.write_recipe(tmp_path, tmp_path / "model"), [])
    estimate = estimate_memory(recipe, Library().data(recipe))
    assert (estimate.tokens, estimate.examples) == (None, 16)


@pytest.fixture
def estimated(small_recipe):
    """A function that estimates the small recipe, with overrides."""

    def estimate(*overrides, **asked):
        recipe = load_recipe(small_recipe, list(overrides))
        return estimate_memory(recipe, Library().data(recipe), **asked)

    return estimate


def test_the_longest_example_is_found(small_recipe):
    recipe, library = load_recipe(small_recipe, []), Library()
    longest = int(library.material(recipe).splits["train"].lengths.max())
    assert architecture_of(recipe, library.data(recipe)).tokens == -(-longest // 8) * 8


def test_what_isnt_trained_is_told_apart(estimated):
    whole, frozen = estimated().usage, estimated("layers.freeze=body").usage
    assert frozen.parameters == whole.parameters == whole.trained
    assert frozen.trained == 32 * 2 + 2  # the head alone
    assert frozen.states < whole.states / 10


@pytest.mark.slow
def test_an_adapter_trains_what_it_trains_in_a_run(small_recipe, estimated):
    pytest.importorskip("peft", reason="PEFT isn't installed")
    overrides = ["adapter={name: lora, rank: 4}"]
    recipe = load_recipe(small_recipe, overrides)
    model = Library().model(recipe).model
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    # The pooler is new in this model's weights, which the configuration doesn't tell.
    pooler = sum(p.numel() for name, p in model.named_parameters() if "pooler" in name and p.requires_grad)
    assert estimated(*overrides).usage.trained == trained - pooler


def test_averages_noise_and_micro_batches_are_counted(estimated):
    plain = estimated().usage
    assert estimated("averaging.ema={}").usage.averages == pytest.approx(plain.weights, rel=0.1)
    assert estimated("regularisation.neftune=5").usage.activations >= plain.activations
    halved = estimated("training.micro_batch_size=4")
    assert (halved.examples, halved.accumulation) == (4, 4)
    assert halved.usage.activations < plain.activations / 2


def test_a_batch_is_shared_by_devices(small_recipe):
    recipe = load_recipe(small_recipe, [])
    assert [split_batch(recipe, devices=count) for count in (1, 3, 16)] == [(16, 1), (6, 1), (1, 1)]
    with pytest.raises(DeviceError, match="--devices: 17 can't share a batch of 16"):
        split_batch(recipe, devices=17)
    with pytest.raises(DeviceError, match="some of them empty"):
        split_batch(load_recipe(small_recipe, ["training.micro_batch_size=1"]), devices=9)


def test_what_fits_is_said_and_what_would(estimated):
    roomy = estimated(devices=2, memory=10**9)
    assert all(roomy.fits(share) for share in roomy.shares)
    assert {remedy.examples for remedy in roomy.largest.values()} == {8}
    narrow = estimated(devices=2, memory=10**6)
    assert not any(narrow.largest.values())
    assert narrow.needed is None


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--memory", "lots"), '--memory: "lots" is no amount of memory'),
        (("--devices", "0"), "--devices: 0 must be from 1"),
        (("--devices", "17"), "--devices: 17 can't share a batch of 16"),
        (("--seconds-per-update", "0"), "--seconds-per-update: 0 must be above 0"),
    ],
)
def test_bad_options_end_with_one_message(check, arguments, complaint):
    code, _, complaints = check(*arguments)
    assert code == 2
    assert complaints.startswith(f"finetune: {complaint}")
    assert complaints.count("\n") == 1


def test_check_prints_a_row_for_each_way_and_what_fits(check):
    code, said, _ = check("--devices", "4", "--memory", "80GB", "--seconds-per-update", "0.5")
    assert code == 0
    assert [word for word in ("data parallel", "zero1", "zero2", "fsdp2") if f"\n{word} " in said] == [
        "data parallel",
        "zero1",
        "zero2",
        "fsdp2",
    ]
    assert "80.0 GB on each of 4 devices" in said
    # 26 updates of half a second on 4 devices.
    assert "0.01 GPU-hours: 26 updates of 0.5 s, as given" in said


def test_hours_are_not_guessed(check):
    assert "hours        not known: no run of this kind is on record" in check("--devices", "1")[1]


def test_json_has_the_estimate(check):
    estimate = json.loads(check("--json", "--memory", "1GB")[1])["estimate"]
    assert estimate["memory"]["memory"] == 10**9
    assert estimate["memory"]["on_each_device"][0]["fits"] is True
    assert estimate["updates"] == 26


def test_hours_alone_take_no_torch(small_recipe):
    code = (
        "import sys\nfrom finetune.cli import main\n"
        f"try: main(['check', {str(small_recipe)!r}, '--seconds-per-update', '2'])\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 False"
    assert "GPU-hours: 26 updates of 2 s" in done.stdout


def test_the_pace_is_that_of_runs_on_record(finished_run):
    from finetune.estimates.duration import pace_on_record
    from finetune.evaluation.record import read_record

    recipe, record = load_recipe(finished_run / "recipe.yaml", []), read_record(finished_run)
    other = load_recipe(finished_run / "recipe.yaml", ["schedule=linear", "optimizer.learning_rate=1e-3"])
    for alike in (recipe, other):
        pace = pace_on_record([alike], runs=finished_run.parent)
        assert pace.seconds_per_update == pytest.approx(record.timing.train_seconds / 26)
        assert (pace.runs, pace.devices, pace.device) == (1, 1, "cpu")
    unlike = load_recipe(finished_run / "recipe.yaml", ["training.batch_size=8"])
    assert pace_on_record([unlike], runs=finished_run.parent) is None
    assert pace_on_record([recipe], runs=finished_run.parent / "nowhere") is None


STUDY = """
base: small.yaml
study:
  grid:
    schedule: [{name: cosine, warmup: 10}, {name: linear, warmup: 10}]
    optimizer: [{name: adamw, learning_rate: 1e-3}, {name: sgd, learning_rate: 1e-2, momentum: 0.0}]
    training.seed: [0, 1, 2]
"""


def test_a_study_is_reckoned_by_what_its_runs_share(check, small_recipe):
    path = small_recipe.parent / "a_study.yaml"
    path.write_text(STUDY, encoding="utf-8")
    estimate = json.loads(check("--json", "--devices", "1", "--seconds-per-update", "3600", recipe=path)[1])["estimate"]
    # 12 runs of 26 updates; of each optimizer and seed one of the two makes the warmup's 11 for both.
    assert estimate["sharing"]["runs"] == 12
    assert estimate["sharing"]["updates"] == 12 * 26
    assert estimate["sharing"]["saved"] in (6 * 10, 6 * 11)
    assert estimate["device_hours"] == estimate["updates"] == 12 * 26 - estimate["sharing"]["saved"]
    assert "adamw" in estimate["setting"]
