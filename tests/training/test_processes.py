"""One curve on any number of processes, copies of the model or shards of it, whole or interrupted."""

import json

import pyarrow.parquet
import pytest
import torch
from safetensors.torch import load_file

from finetune.evaluation.record import find_runs, read_history, read_record
from tests import tiny
from tests.forked import FSDP2, Forks

pytestmark = pytest.mark.slow

# 66 examples in batches of 16 leave a last one of 2, less than 3 or 4 processes; 33 don't divide for evaluation either.
SIZES = {"train": 66, "validation": 33, "test": 7}
TASKS = {
    "text_classification": ("text: sentence, label: label, ", tiny.sentences),
    "text_regression": ("text: sentence, label: rating, ", tiny.rated),
    "multi_label": ("text: sentence, label: labels, ", tiny.labelled),
    "token_classification": ("", tiny.tagged),
}


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    made = Forks(tmp_path_factory.mktemp("launches"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def recipes(tmp_path_factory, tiny_model):
    """For each task the path of a recipe that trains the tiny model without dropout for 20 updates."""
    folder = tmp_path_factory.mktemp("recipes")
    model = tiny.without_dropout(tiny_model, folder / "steady")
    made = {}
    for name, (settings, rows) in TASKS.items():
        place = folder / name
        place.mkdir()
        splits = {split: rows(count, seed) for seed, (split, count) in enumerate(SIZES.items())}
        made[name] = tiny.write_task_recipe(place, model, f"{{name: {name}, {settings}max_length: 32}}", splits)
    return made


@pytest.fixture(scope="module")
def recipe(recipes):
    return recipes["text_classification"]


@pytest.fixture(scope="module")
def run(forks, recipes, tmp_path_factory):
    """Runs a recipe to its end; returns the directory."""

    def launch(processes, *settings, task="text_classification", output=None, environment=None):
        output = output or tmp_path_factory.mktemp("runs")
        arguments = ("run", recipes[task], f"output={output}", *settings)
        forks.launch(processes, *arguments, environment=environment).check()
        (place,) = find_runs([output])
        return place

    return launch


@pytest.fixture(scope="module")
def alone(run):
    return run(1)


def updates(place):
    return [row for row in read_history(place) if "rates" in row]


def evaluations(place):
    return [row["evaluation"] for row in read_history(place) if "evaluation" in row]


def check_same_curve(place, other, *, rel=1e-3):
    """Checks that two runs are the same but for the order in which numbers were added up."""
    record, expected = read_record(place), read_record(other)
    assert [row["rates"] for row in updates(place)] == [row["rates"] for row in updates(other)]
    assert (record.schedule, record.identity) == (expected.schedule, expected.identity)
    for key, within in (("loss", rel), ("gradient_norm", 20 * rel)):
        found, wanted = ([row[key] for row in updates(each)] for each in (place, other))
        assert found == pytest.approx(wanted, rel=within, abs=1e-6)
    losses = [[each["loss"] for each in evaluations(each)] for each in (place, other)]
    assert losses[0] == pytest.approx(losses[1], rel=rel)
    for split, result in expected.results.splits.items():
        assert record.results.splits[split].count == result.count == SIZES[split]
        assert record.results.splits[split].loss == pytest.approx(result.loss, rel=rel)
        tables = [pyarrow.parquet.read_table(each / "predictions" / f"{split}.parquet") for each in (place, other)]
        for column in ("row", "label"):
            assert tables[0][column].to_pylist() == tables[1][column].to_pylist()


def check_same_model(place, other):
    found, expected = (load_file(each / "model" / "model.safetensors") for each in (place, other))
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0.02, atol=2e-3)


@pytest.mark.parametrize(("processes", "settings"), [(2, ["training.micro_batch_size=3"]), (4, [])])
def test_copies_on_any_number_of_processes_make_the_curve_of_one(run, alone, processes, settings):
    place = run(processes, *settings)
    check_same_curve(place, alone)
    check_same_model(place, alone)


def test_shards_make_the_curve_of_one_process(run, alone):
    place = run(2, "training.micro_batch_size=3", environment=FSDP2)
    check_same_curve(place, alone)
    check_same_model(place, alone)
    config = json.loads((place / "model" / "config.json").read_text())
    assert config["architectures"] == ["BertForSequenceClassification"]


@pytest.mark.parametrize("task", [*TASKS][1:])
def test_every_task_weighs_its_examples_as_on_one_process(run, task):
    check_same_curve(run(3, "training.duration=2ep", task=task), run(1, "training.duration=2ep", task=task))


@pytest.mark.parametrize(
    ("settings", "within"),
    [
        (["optimizer={name: sgd, learning_rate: 1e-2}"], 1e-5),
        (["adapter={name: lora, rank: 4}", "training.fast_dropout=true"], 1e-5),
        (["training.precision=bf16"], 2e-2),
    ],
)
def test_shards_train_what_copies_do(run, settings, within):
    settings = ("training.duration=8", "evaluation.every=4", *settings)
    losses = [
        [row["loss"] for row in updates(place)] for place in (run(1, *settings), run(2, *settings, environment=FSDP2))
    ]
    assert losses[1] == pytest.approx(losses[0], rel=within)


INTERRUPTED = [
    ("copies", 2, "copies", 1),
    ("copies", 2, "copies", 3),
    ("fsdp2", 2, "copies", 1),
    ("copies", 1, "fsdp2", 2),
]
ENVIRONMENTS = {"copies": {}, "fsdp2": FSDP2}


@pytest.mark.parametrize(("saved", "before", "resumed", "after"), INTERRUPTED)
def test_a_checkpoint_goes_on_on_any_number_of_processes(
    forks, run, recipe, alone, tmp_path, saved, before, resumed, after
):
    settings = ("averaging={ema: {decay: 0.9}, checkpoints: 2}",)
    arguments = ("run", recipe, f"output={tmp_path}", *settings)
    done = forks.launch(before, *arguments, environment=ENVIRONMENTS[saved], stop_at=7)
    assert set(done.codes) == {75}, done.err
    place = run(after, *settings, output=tmp_path, environment=ENVIRONMENTS[resumed])
    assert [row["rates"] for row in updates(place)] == [row["rates"] for row in updates(alone)]
    assert [row["loss"] for row in updates(place)] == pytest.approx([row["loss"] for row in updates(alone)], rel=1e-3)
    record = read_record(place)
    assert record.identity.batches == read_record(alone).identity.batches
    assert record.environment.processes == after
    assert set(record.results.beside) == {"ema", "average"}


def test_shards_average_as_copies_do(run):
    settings = ("averaging={ema: {decay: 0.9}, checkpoints: 2, keep: ema}", "evaluation.every=5")
    copies, shards = run(1, *settings), run(2, *settings, environment=FSDP2)
    check_same_curve(shards, copies)
    check_same_model(shards, copies)
    one, two = (read_record(place).results.beside["average"].splits["test"] for place in (copies, shards))
    assert two.loss == pytest.approx(one.loss, rel=1e-3)


@pytest.mark.parametrize("kind", ENVIRONMENTS)
def test_processes_smooth_weigh_and_freeze_as_one(run, kind):
    """Batches are cut in two, whose classes differ: each part's own weights would give another loss."""
    settings = (
        'regularisation={label_smoothing: 0.1, class_weights: {"0": 5.0}}',
        "layers={rate_decay: 0.5, freeze: [word_embeddings]}",
    )
    place = run(2, *settings, environment=ENVIRONMENTS[kind])
    check_same_curve(place, run(1, *settings))


def test_processes_unfreeze_as_one(run, recipe):
    """What isn't unfrozen yet is no part of what the processes add up, and is from then on."""
    settings = ("layers={unfreeze: {every: 4}, rate_decay: 0.5, freeze: [word_embeddings]}", "evaluation.keep=last")
    place = run(2, *settings)
    check_same_curve(place, run(1, *settings))
    trained = load_file(place / "model" / "model.safetensors")
    for name, tensor in load_file(recipe.parents[1] / "steady" / "model.safetensors").items():
        assert torch.equal(tensor, trained[f"bert.{name}"]) is ("word_embeddings" in name), name


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (["training.seed=1"], "recipe.training.seed: 0 on process 0, 1 on process 1"),
        (["--repeat"], "options.repeat: False on process 0, True on process 1"),
    ],
)
def test_processes_that_disagree_end_with_one_message(forks, recipe, tmp_path, own, message):
    done = forks.launch(2, "run", recipe, f"output={tmp_path}", own={1: own}, seconds=60)
    assert done.codes == [2, 2], done.err
    assert message in done.err[0]
    assert done.err[0].count("finetune: ") == 1
    assert done.err[1] == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "environment", "message"),
    [
        (["training.batch_size=1"], {}, "training.batch_size: 1 can't be split over 2 processes"),
        (["training.micro_batch_size=1", "training.batch_size=3"], {}, "cuts a batch of 3 on 2 processes into 4 parts"),
        (["layers={unfreeze: {every: 4}}"], FSDP2, "layers.unfreeze: can't be had with FSDP2"),
        (
            ["optimizer={name: adafactor, learning_rate: 1e-3}"],
            FSDP2,
            "optimizer.name: adafactor: can't be had with FSDP2",
        ),
        ([], {"ACCELERATE_USE_DEEPSPEED": "true"}, "DeepSpeed keeps the state of the optimizer in files of its own"),
    ],
)
def test_what_can_not_be_had_on_several_processes_is_one_message(
    forks, recipe, tmp_path, settings, environment, message
):
    done = forks.launch(2, "run", recipe, f"output={tmp_path}", *settings, environment=environment, seconds=60)
    assert done.codes == [2, 2], done.err
    assert message in done.err[0]
    assert done.err[0].count("finetune: ") == 1
    assert done.err[1] == ""
