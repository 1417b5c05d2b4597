"""Question answering in runs: what is learnt and left, and what is known before."""

from functools import partial

import numpy as np
import pytest
import torch
from pyarrow import parquet
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

from finetune.evaluation.record import read_history
from finetune.evaluation.runs import read_run
from finetune.recipe import load_recipe
from finetune.training.preview import preview_run
from tests import tiny

SETTINGS = "{name: question_answering, max_length: 24, stride: 4, max_answer_length: 3, null_threshold: 0}"


def questions(count, seed, *, unanswered):
    """Returns `count` rows which ask for a good word and the bad one after it, among 20 others of a text.

    In a share `unanswered` there are none.
    """
    draw = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        words = [str(word) for word in draw.choice(tiny.NEUTRAL.split(), 20)]
        place, answer = int(draw.integers(20)), f"{draw.choice(tiny.GOOD.split())} {draw.choice(tiny.BAD.split())}"
        start = len(" ".join([*words[:place], ""]))
        answers = {"text": [], "answer_start": []}
        if draw.random() >= unanswered:
            words.insert(place, answer)
            answers = {"text": [answer], "answer_start": [start]}
        made.append({"question": "what is the film", "context": " ".join(words), "answers": answers})
    return made


@pytest.fixture
def answer(train_task):
    """A function that trains the tiny model to find such words; returns its record and its directory."""
    sizes = {"train": 200, "validation": 40, "test": 40}
    splits = {split: questions(count, count + len(split), unanswered=0.25) for split, count in sizes.items()}
    return partial(train_task, SETTINGS, splits)


@pytest.mark.slow
def test_a_run_learns_to_answer_and_leaves_what_it_should(answer):
    longer = ("training.duration=6ep", "evaluation.every=null", "checkpoints.every=null")
    record, run = answer("optimizer.learning_rate=1e-2", *longer)
    given = questions(40, 44, unanswered=0.25)
    assert record.identity.classes == []
    assert record.identity.data["test"].count == record.results.splits["test"].count == 40
    assert record.results.splits["test"].metrics["exact_match"].value > 0.7
    table = parquet.read_table(run / "predictions" / "test.parquet").to_pydict()
    assert list(table) == ["row", "label", "prediction", "start", "probability", "score"]
    assert table["label"] == [row["answers"]["text"] for row in given]
    answered = [number for number in range(40) if table["prediction"][number]]
    assert 20 < len(answered) < 40
    for number in answered:
        text, start = table["prediction"][number], table["start"][number]
        assert given[number]["context"][start : start + len(text)] == text
    assert read_run(run).example_scores("test").mean() == pytest.approx(record.score("test"))

    model = AutoModelForQuestionAnswering.from_pretrained(run / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    row = given[answered[0]]
    tokens = tokenizer(row["question"], row["context"], return_tensors="pt")
    with torch.no_grad():
        outputs = model(**tokens)
    first, last = int(outputs.start_logits[0].argmax()), int(outputs.end_logits[0].argmax())
    assert tokenizer.decode(tokens["input_ids"][0, first : last + 1]) == table["prediction"][answered[0]]


def test_micro_batches_change_no_loss(answer, steady_model):
    brief = ("training.duration=6", "evaluation.every=null", f"model.path={steady_model}")
    (_, whole), (_, parts) = answer(*brief), answer(*brief, "training.micro_batch_size=6", "name=parts")
    losses = [[row["loss"] for row in read_history(run) if "rates" in row] for run in (whole, parts)]
    assert len(losses[0]) == 6
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_how_many_updates_there_will_be_is_left_open_before_the_windows_are_known(tmp_path, tiny_model):
    rows_of = {split: questions(9, 1, unanswered=0) for split in ("train", "validation")}
    path = tiny.write_task_recipe(tmp_path, tiny_model, SETTINGS, rows_of)
    outlook = preview_run(load_recipe(path), source=path)
    assert outlook.horizon is None
    assert outlook.cautions == ["9 of 9 validation texts are in train too"]
