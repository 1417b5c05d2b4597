"""Models and texts for benchmarks, beside those that a recipe names."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from pathlib import Path

from transformers import BertConfig, BertModel

from finetune.recipe import FileData, Recipe, load_recipe

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "minilm_reviews.yaml"
TOKENIZER = RECIPE.parents[1] / "assets" / "all-MiniLM-L6-v2"


def save_bert_base(folder: Path) -> Path:
    """Saves a BERT-base of random weights with the tokenizer of MiniLM, which is BERT's."""
    shutil.copytree(TOKENIZER, folder, ignore=shutil.ignore_patterns("model.safetensors", "config.json"))
    BertModel(BertConfig()).save_pretrained(folder)
    return folder


def save_joined(folder: Path, recipe: Recipe, *, sentences: int) -> list[str]:
    """Saves the recipe's texts again, `sentences` of a split joined to one at random, as overrides of a recipe."""
    import pyarrow
    from pyarrow import parquet

    assert isinstance(recipe.data, FileData)  # noqa: S101
    draw, overrides = random.Random(0), []  # noqa: S311
    for split, (path, *_) in recipe.data.files.items():
        table = parquet.read_table(path)
        texts = table[recipe.task.text].to_pylist()
        joined = [" ".join(draw.sample(texts, sentences)) for _ in texts]
        made = {recipe.task.text: joined, recipe.task.label: table[recipe.task.label]}
        parquet.write_table(pyarrow.table(made), folder / f"{split}.parquet")
        overrides.append(f"data.files.{split}={folder / f'{split}.parquet'}")
    return overrides


def prepared(recipe: Path, overrides: Sequence[str], *, folder: Path, bert_base: bool, sentences: int) -> list[str]:
    """Returns `overrides` and those that put a BERT-base, and longer texts, in the place of the recipe's own."""
    made = list(overrides)
    if bert_base:
        made.append(f"model.path={save_bert_base(folder / 'bert-base')}")
    if sentences > 1:
        made += save_joined(folder, load_recipe(recipe, overrides), sentences=sentences)
    return made
