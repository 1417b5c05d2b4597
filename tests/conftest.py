"""What all tests share: slow ones run last, and a tiny model, sentences it can learn from, and a Hub cache of both."""

import csv
import io
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# Tests never reach the Hub; this must be set before huggingface_hub is imported.
os.environ["HF_HUB_OFFLINE"] = "1"

SPECIAL = "[PAD] [UNK] [CLS] [SEP] [MASK]"
GOOD = "brilliant charming clever delightful funny graceful moving rich superb tender thrilling warm"
BAD = "awful bland boring clumsy dreary dull empty hollow lazy stale tedious weak"
NEUTRAL = (
    "a about actor after all an and as at before but camera cast character city comedy day director drama ending "
    "every family film for friend from has in into is it its life long many movie music new night of old on one plot "
    "role scene screen script second sequel so some sound stage star story street than that the their then there this "
    "through time to town two version war way which while with without writer year young"
)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.fixture(scope="session")
def sentences():
    """Returns `count` rows in the form of SST-2: 3 to 30 words, half of them telling, classes drawn evenly."""

    def make(count, seed):
        draw = random.Random(seed)
        telling, neutral = (BAD.split(), GOOD.split()), NEUTRAL.split()
        rows = []
        for idx in range(count):
            label, length = draw.randrange(2), draw.randint(3, 30)
            words = draw.choices(telling[label], k=length // 2) + draw.choices(neutral, k=length - length // 2)
            draw.shuffle(words)
            rows.append({"idx": idx, "sentence": " ".join(words), "label": label})
        return rows

    return make


@pytest.fixture(scope="session")
def save_model():
    """Saves a BERT encoder of random weights, without a head, and its tokenizer into a folder."""

    def save(folder, *, positions):
        import torch
        from transformers import BertConfig, BertModel, BertTokenizerFast

        words = f"{SPECIAL} {GOOD} {BAD} {NEUTRAL}".split()
        tokenizer = BertTokenizerFast(vocab={word: number for number, word in enumerate(words)})
        tokenizer.model_max_length = positions
        config = BertConfig(
            vocab_size=len(words),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=positions,
        )
        with torch.random.fork_rng():
            torch.manual_seed(0)
            BertModel(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    return save


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory, save_model):
    """The folder of an encoder for up to 64 tokens."""
    folder = tmp_path_factory.mktemp("tiny_model")
    save_model(folder, positions=64)
    return folder


@pytest.fixture(scope="session")
def review_files(tmp_path_factory, sentences):
    """A folder with train.csv (200 rows), validation.jsonl (60) and test.parquet (60)."""
    import pyarrow
    from pyarrow import parquet

    folder = tmp_path_factory.mktemp("reviews")

    def rows(count, seed):
        return [row | {"label": ("negative", "positive")[row["label"]]} for row in sentences(count, seed)]

    with (folder / "train.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["idx", "sentence", "label"])
        writer.writeheader()
        writer.writerows(rows(200, seed=1))
    lines = [json.dumps(row) + "\n" for row in rows(60, seed=2)]
    (folder / "validation.jsonl").write_text("".join(lines), encoding="utf-8")
    parquet.write_table(pyarrow.Table.from_pylist(rows(60, seed=3)), folder / "test.parquet")
    return folder


RECIPE = """
task: {{name: text_classification, text: sentence, label: label, max_length: 32}}
model: {{path: "{model}"}}
data: {{files: {{train: train.csv, validation: validation.jsonl, test: test.parquet}}}}
schedule: {{name: cosine, warmup: "10%"}}
optimizer: {{name: adamw, learning_rate: 5e-3}}
training: {{duration: 2ep, batch_size: 16, precision: fp32, seed: 0}}
evaluation: {{every: 1ep, metrics: [accuracy, f1_macro], select: accuracy, keep: best, batch_size: 32}}
"""


@pytest.fixture
def small_recipe(tmp_path, tiny_model, review_files):
    """The path of a recipe that trains the tiny model on a copy of the review files, for 26 updates."""
    for file in review_files.iterdir():
        shutil.copy(file, tmp_path)
    path = tmp_path / "small.yaml"
    path.write_text(RECIPE.format(model=tiny_model.as_posix()), encoding="utf-8")
    return path


@pytest.fixture
def train(small_recipe):
    """A function that runs the small recipe with overrides; returns its record and its directory."""
    from rich.console import Console

    from finetune.recipe import load_recipe
    from finetune.training import fine_tune
    from finetune.training.run_directory import run_directory

    def run(*overrides, repeat=False, out=None):
        recipe = load_recipe(small_recipe, [f"output={small_recipe.parent / 'runs'}", *overrides])
        console = Console(file=out or io.StringIO(), width=120)
        record = fine_tune(recipe, source=small_recipe, console=console, repeat=repeat)
        return record, run_directory(recipe, source=small_recipe)

    return run


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
