"""What is known of a run before a model is loaded, and comes true in it."""

import pytest
from tokenizers import Tokenizer

from finetune.evaluation.record import read_history
from finetune.recipe import load_recipe
from finetune.tasks.labelled_texts import LabelledTexts
from finetune.tasks.token_lengths import read_tokenizer, token_lengths
from finetune.training.layout import layout_of
from finetune.training.material import Library
from finetune.training.plan import lay_out_updates
from finetune.training.preview import preview_run
from finetune.training.run_directory import run_directory
from finetune.training.run_lock import held


@pytest.mark.parametrize(
    "overrides",
    [
        ["training.duration=3ep", "training.batch_size=7"],
        ["data.examples.train=50", "evaluation.every=10%", "checkpoints.every=3"],
        ["schedule.warmup=1k tokens", "task.max_length=12", "data.examples.train=90"],
        ["evaluation.every=100 samples", "training.seed=3"],
    ],
    ids=["epochs", "shares", "tokens", "samples"],
)
def test_the_horizon_is_that_of_the_run(small_recipe, overrides):
    recipe = load_recipe(small_recipe, overrides)
    *_, horizon = lay_out_updates(recipe, layout=layout_of(recipe), library=Library())
    previewed = preview_run(recipe, source=small_recipe).horizon
    assert (previewed.total_steps, previewed.evaluate_every) == (horizon.total_steps, horizon.evaluate_every)
    factors = [recipe.schedule.over(each.run, peak=5e-3) for each in (previewed, horizon)]
    assert [factors[0](step) for step in range(20)] == [factors[1](step) for step in range(20)]


@pytest.mark.slow
def test_what_it_says_comes_true(train, small_recipe):
    overrides = [
        *("training.duration=20", "evaluation.every=6", "checkpoints.every=null"),
        "groups={head: {parameters: classifier, learning_rate: 1e-2, schedule: linear}}",
    ]
    recipe = load_recipe(small_recipe, [f"output={small_recipe.parent / 'runs'}", *overrides])
    outlook = preview_run(recipe, source=small_recipe)
    steps, rates = outlook.rates()
    record, run = train(*overrides)
    assert outlook.run == run
    assert outlook.found.state == "new"
    assert outlook.evaluations == [row["step"] for row in read_history(run) if "evaluation" in row] == [6, 12, 18, 20]
    assert outlook.checkpoints == []
    assert steps == list(range(20))
    applied = {group.name: group.rates for group in record.schedule.groups}
    assert rates == {"cosine": pytest.approx(applied["decay"]), "group head": pytest.approx(applied["head"])}
    assert {split: each.used for split, each in outlook.splits.items()} == {
        split: identity.count for split, identity in record.identity.data.items()
    }


def test_the_tokens_are_those_of_the_run(small_recipe, tiny_model):
    recipe = load_recipe(small_recipe, ["task.max_length=12"])
    train = Library().material(recipe).splits["train"]
    tokens = preview_run(recipe, source=small_recipe).splits["train"].tokens
    assert (tokens.counted, tokens.cut) == (200, train.truncated)
    assert train.truncated > 0


def test_pairs_have_the_tokens_of_both(small_recipe, tiny_model):
    recipe = load_recipe(small_recipe)
    pairs = LabelledTexts(["a film", "a dull plot"], ["moving", "it is slow and stale"], [0, 1])
    encoded = recipe.task.encode(pairs, Library().material(recipe).processor)
    lengths = token_lengths(read_tokenizer(tiny_model), pairs.texts, pairs.pairs)
    assert lengths == encoded.lengths.tolist()


def test_texts_are_counted_whole_and_unpadded_whatever_the_tokenizer_does_of_its_own(tiny_model, tmp_path):
    tokenizer = Tokenizer.from_file(str(tiny_model / "tokenizer.json"))
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=16)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    # [CLS] and [SEP] besides the words.
    assert token_lengths(read_tokenizer(tmp_path), ["a moving film of its year", "dull"], None) == [8, 3]


def test_a_directory_that_another_process_is_at_work_in(small_recipe):
    recipe = load_recipe(small_recipe, [f"output={small_recipe.parent / 'runs'}"])
    run = run_directory(recipe, source=small_recipe)
    run.mkdir(parents=True)
    with held(run):
        assert preview_run(recipe, source=small_recipe).found.state == "running"
    assert preview_run(recipe, source=small_recipe).found.state == "new"
