"""What all tests share: slow ones run last, and a tiny model, sentences it can learn from, and a Hub cache of both."""

import io
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import tiny

# Tests never reach the Hub; this must be set before huggingface_hub is imported.
os.environ["HF_HUB_OFFLINE"] = "1"
# Two runs are bit-equal on a CPU alone, so that is where all tests run but those of tests/test_gpu.py.
os.environ["ACCELERATE_USE_CPU"] = "true"

# How long an example takes says how busy the machine is.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


LONGEST = {
    f"test_{name}.py" for name in ("stopping", "launch", "lost_disks", "two_machines", "newcomer", "contributing")
}
"""Of the slow tests these go first, so that the last ones are short and no core waits for another."""


def pytest_collection_modifyitems(items):
    def turn(item):
        if item.get_closest_marker("slow") is None:
            return 0
        return 1 if item.path.name in LONGEST else 2

    items.sort(key=turn)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Keeps what tests make of their data out of the user's cache."""
    os.environ["FINETUNE_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def sentences():
    """`tiny.sentences`."""
    return tiny.sentences


@pytest.fixture(scope="session")
def save_model():
    """`tiny.save_model`."""
    return tiny.save_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory, save_model):
    """The folder of an encoder for up to 64 tokens."""
    folder = tmp_path_factory.mktemp("tiny_model")
    save_model(folder, positions=64)
    return folder


@pytest.fixture(scope="session")
def tiny_causal_model(tmp_path_factory):
    """The folder of a GPT-2 for up to 64 tokens."""
    folder = tmp_path_factory.mktemp("tiny_causal_model")
    tiny.save_causal_model(folder, positions=64)
    return folder


@pytest.fixture(scope="session")
def review_files(tmp_path_factory):
    """A folder with the reviews of `tiny.write_reviews`."""
    folder = tmp_path_factory.mktemp("reviews")
    tiny.write_reviews(folder)
    return folder


@pytest.fixture
def small_recipe(tmp_path, tiny_model, review_files):
    """The path of a recipe that trains the tiny model on a copy of the review files, for 26 updates."""
    for file in review_files.iterdir():
        shutil.copy(file, tmp_path)
    return tiny.write_recipe(tmp_path, tiny_model)


@pytest.fixture
def train(small_recipe):
    """A function that runs the small recipe with overrides; returns its record and its directory."""
    from rich.console import Console

    from finetune.recipe import load_recipe
    from finetune.training import fine_tune
    from finetune.training.run_directory import run_directory

    def run(*overrides, out=None, **options):
        recipe = load_recipe(small_recipe, [f"output={small_recipe.parent / 'runs'}", *overrides])
        console = Console(file=out or io.StringIO(), width=120)
        record = fine_tune(recipe, source=small_recipe, console=console, **options)
        return record, run_directory(recipe, source=small_recipe)

    return run


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory, tiny_model, review_files):
    """The directory of a run of the small recipe, which has learnt to tell the sentences apart."""
    from rich.console import Console

    from finetune.recipe import load_recipe
    from finetune.training import fine_tune, run_directory

    folder = tmp_path_factory.mktemp("finished")
    for file in review_files.iterdir():
        shutil.copy(file, folder)
    path = tiny.write_recipe(folder, tiny_model)
    recipe = load_recipe(path, [f"output={folder / 'runs'}"])
    fine_tune(recipe, source=path, console=Console(file=io.StringIO()))
    return run_directory(recipe, source=path)


@pytest.fixture
def steady_model(tiny_model, tmp_path):
    """The tiny model without dropout, so that a batch gives the same loss however it is cut."""
    return tiny.without_dropout(tiny_model, tmp_path / "steady_model")


@pytest.fixture
def train_task(tmp_path, tiny_model):
    """A function that trains the tiny model for a task, a YAML block, on rows of splits, 16 in an update.

    Returns its record and its directory, as `train` does.
    """
    from rich.console import Console

    from finetune.recipe import load_recipe
    from finetune.training import fine_tune
    from finetune.training.run_directory import run_directory

    def run(task, splits, *overrides):
        path = tiny.write_task_recipe(tmp_path, tiny_model, task, splits)
        recipe = load_recipe(path, [f"output={tmp_path / 'runs'}", *overrides])
        record = fine_tune(recipe, source=path, console=Console(file=io.StringIO(), width=120))
        return record, run_directory(recipe, source=path)

    return run


@pytest.fixture
def stop_in(monkeypatch):
    """A function that has a SIGTERM sent to this process in the middle of a step of a trainer's `method`, once."""

    from finetune.training.trainer import ScheduledTrainer

    def arm(method, when):
        original, sent = getattr(ScheduledTrainer, method), []

        def step(self, *args, **kwargs):
            if not sent and when(self):
                sent.append(True)
                os.kill(os.getpid(), signal.SIGTERM)
            return original(self, *args, **kwargs)

        monkeypatch.setattr(ScheduledTrainer, method, step)

    return arm


def _cache_model(home, save_model):
    repository = home / "hub" / "models--google-bert--bert-base-uncased"
    commit = "0123456789abcdef0123456789abcdef01234567"
    save_model(repository / "snapshots" / commit, positions=128)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)


def _cache_glue(home, sentences):
    import datasets
    from datasets.arrow_writer import ArrowWriter

    features = datasets.Features(
        {
            "sentence": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["negative", "positive"]),
            "idx": datasets.Value("int32"),
        }
    )
    splits = {
        "train": sentences(200, seed=1),
        "validation": sentences(60, seed=2),
        "test": [row | {"label": -1} for row in sentences(60, seed=3)],
    }
    folder = home / "datasets" / "nyu-mll___glue" / "sst2" / "0.0.0" / "0123456789abcdef0123456789abcdef01234567"
    folder.mkdir(parents=True)
    for split, rows in splits.items():
        with ArrowWriter(features=features, path=str(folder / f"glue-{split}.arrow")) as writer:
            for row in rows:
                writer.write(row)
            writer.finalize()
    counts = [{"name": split, "num_examples": len(rows)} for split, rows in splits.items()]
    datasets.DatasetInfo(
        features=features,
        dataset_name="glue",
        config_name="sst2",
        version="0.0.0",
        splits=datasets.SplitDict.from_split_dict(counts),
    ).write_to_directory(str(folder))


@pytest.fixture(scope="session")
def hub_cache(tmp_path_factory, save_model, sentences):
    """An HF_HOME with google-bert/bert-base-uncased (a tiny encoder for up to 128 tokens) and nyu-mll/glue's sst2.

    As in the real one, no example of sst2's test split has a label. A process reads it with HF_HOME set to it.
    """
    home = tmp_path_factory.mktemp("hf_home")
    _cache_model(home, save_model)
    _cache_glue(home, sentences)
    return home


@pytest.fixture(scope="session")
def run_offline(hub_cache):
    """Runs Python code in a process that has `hub_cache` and no connection; returns what it prints."""

    def run(code):
        environment = os.environ | {"HF_HOME": str(hub_cache), "HF_HUB_OFFLINE": "1"}
        for name in ("HF_HUB_CACHE", "HF_DATASETS_CACHE"):
            environment.pop(name, None)
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def rates_used():
    """The rate of the first group in each step of whatever optimizer."""
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    rates = []
    hook = register_optimizer_step_pre_hook(lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]))
    yield rates
    hook.remove()


@pytest.fixture
def finetune(capfd):
    """Runs a command of the command line; returns its exit code and what it printed to each stream."""
    from finetune.cli import main

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main([str(each) for each in arguments])
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return end.value.code or 0, out, err

    return run


@pytest.fixture
def check(finetune, small_recipe, monkeypatch):
    """Runs `finetune check` on the small recipe, or another, in its folder; returns what `finetune` does."""
    monkeypatch.chdir(small_recipe.parent)

    def run(*arguments, recipe=small_recipe):
        return finetune("check", recipe, *arguments)

    return run
