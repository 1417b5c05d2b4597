"""Question answering: what is read and refused, windows against the tokenizer's own, answers against a plain search."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset

from finetune.data import Rows
from finetune.errors import DataError, SettingError
from finetune.tasks import TASKS, as_task
from finetune.tasks.question_answering import QuestionAnswering
from finetune.tasks.spans import Ends, best_spans

TASK = QuestionAnswering(max_length=16, stride=3)
CONTEXT = "the film has a brilliant story and the actor is funny but the music is dull at night in the city"


def rows(**columns):
    return Rows.of_dataset(Dataset.from_dict(columns))


def squad(*answers, context=CONTEXT):
    """Returns a question about CONTEXT for each list of answers, each a text and where it starts."""
    return rows(
        question=["what is the film about"] * len(answers),
        context=[context] * len(answers),
        answers=[
            {"text": [text for text, _ in each], "answer_start": [start for _, start in each]} for each in answers
        ],
    )


def at(text, context=CONTEXT):
    return text, context.index(text)


def read(given, task=TASK):
    classes, examples = task.read({"train": given})
    assert classes == ()
    return examples["train"]


def test_the_task_is_known_by_its_name_and_its_settings_are_plain_values():
    task = as_task({"name": "question_answering", "null_threshold": 0, "answer_text": "a", "answer_start": "b"})
    assert TASKS["question_answering"] is QuestionAnswering
    assert as_task(task.to_dict()) == task
    assert task.columns == ("question", "context", "a", "b")
    assert TASK.columns == ("question", "context", "answers")
    assert (TASK.metrics, TASK.form) == (("answer_f1", "exact_match"), "texts")


def test_answers_are_read_in_the_form_of_squad():
    examples = read(squad([at("brilliant story"), at("story")], [at("dull")]))
    assert list(examples.accepted.texts) == [("brilliant story", "story"), ("dull",)]
    assert list(examples.accepted.starts) == [CONTEXT.index("brilliant"), CONTEXT.index("dull")]
    assert list(examples.accepted.ends - examples.accepted.starts) == [15, 4]


@pytest.mark.parametrize(
    ("texts", "starts"),
    [(["dull", ""], [CONTEXT.index("dull"), None]), ([["dull"], []], [[CONTEXT.index("dull")], []])],
    ids=["one a row", "lists"],
)
def test_answers_are_read_from_columns_of_texts_and_starts(texts, starts):
    task = QuestionAnswering(answer_text="text", answer_start="start", null_threshold=0.0)
    examples = read(rows(question=["a"] * 2, context=[CONTEXT] * 2, text=texts, start=starts), task)
    assert list(examples.accepted.texts) == [("dull",), ()]
    assert list(examples.accepted.starts) == [CONTEXT.index("dull"), -1]


def test_white_space_around_an_answer_is_none_of_its_words():
    accepted = read(squad([at(" dull ")])).accepted
    assert (accepted.starts[0], accepted.ends[0]) == (CONTEXT.index("dull"), CONTEXT.index("dull") + 4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            squad([at("dull")], [("dull", 4)]),
            "column \"answers\" of the train split: row 2 has the answer 'dull' at character 4, where the context has "
            f"'film'; it stands at {CONTEXT.index('dull')} (characters count from 0)",
        ),
        (
            squad([("bleak", 500)]),
            "column \"answers\" of the train split: row 1 has the answer 'bleak' at character 500, outside its context of "
            f"{len(CONTEXT)}; it stands nowhere in the context (characters count from 0)",
        ),
        (
            squad([("the", -1)]),
            "column \"answers\" of the train split: row 1 has the answer 'the' at character -1, outside its context of "
            f"{len(CONTEXT)}; it stands at 0 (characters count from 0)",
        ),
        (
            squad([at("dull")], [(" ", 3)]),
            "column \"answers\" of the train split: row 2 has the answer ' ' at 3; an answer is some words, and the number "
            "of their first character",
        ),
        (
            squad([at("dull")], [], []),
            'column "answers" of the train split: 2 questions have no answer, the first of them row 2; set '
            "task.null_threshold to 0, say, so that a model may give none, as in SQuAD v2, or remove them",
        ),
        (
            rows(question=["a"], context=["b"], answers=[{"text": ["b", "b"], "answer_start": [0]}]),
            'column "answers" of the train split: row 1 has 2 texts of answers and 1 places; each answer has one of both',
        ),
        (
            rows(question=["a"], context=["b"], answers=["b"]),
            'column "answers" of the train split holds string; answers are objects with text and answer_start, two lists, '
            "as in SQuAD; or name columns of each as task.answer_text and task.answer_start",
        ),
        (
            rows(question=["a"], context=["b"], answers=[{"text": ["b"], "answer_start": ["0"]}]),
            'column "answers" of the train split holds list<element: string> and list<element: string>; answers are texts, '
            "and the whole numbers that they start at",
        ),
        (
            rows(question=["a"], context=[None], answers=[{"text": ["b"], "answer_start": [0]}]),
            'column "context" of the train split is empty in row 1: fill or remove it',
        ),
    ],
    ids=["elsewhere", "beyond", "before", "blank", "none", "unequal", "no objects", "no numbers", "no context"],
)
def test_unfit_data_is_refused(given, message):
    with pytest.raises(DataError) as caught:
        read(given)
    assert str(caught.value).replace("list<item:", "list<element:") == message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stride": 384}, "stride: 384 must be 0 or more, and less than max_length"),
        ({"stride": -1}, "stride: -1 must be 0 or more"),
        ({"n_best": 0}, "n_best: 0 must be 1 or more"),
        ({"max_answer_length": 0}, "max_answer_length: 0 must be 1 or more"),
        ({"answer_text": "a"}, "answer_start: is missing"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        QuestionAnswering(**settings)


def test_later_data_needs_no_answers():
    examples = TASK.read_for(rows(question=["a"], context=["b"]), (), labelled=False)
    assert list(examples.accepted.texts) == [()]


def windows_of(given, tokenizer, task=TASK):
    return task.encode(read(given, task), tokenizer)


def test_windows_are_those_of_the_tokenizer(tokenizer):
    windows = windows_of(squad([at("dull")], [at("film")]), tokenizer)
    expected = tokenizer(
        ["what is the film about"] * 2,
        [CONTEXT] * 2,
        truncation="only_second",
        max_length=16,
        stride=3,
        return_overflowing_tokens=True,
    )
    assert [list(windows[number]["input_ids"]) for number in range(len(windows))] == expected["input_ids"]
    assert list(windows.questions) == expected["overflow_to_sample_mapping"]
    assert len(windows) > 4
    assert list(windows.rows) == list(range(len(windows)))
    assert TASK.examples_in(windows) == 2


@pytest.mark.parametrize(
    "answer", ["brilliant story", "the film", "city", "funny but the music is dull at night", CONTEXT]
)
def test_labels_are_the_tokens_of_the_answer_in_windows_that_have_all_of_them(tokenizer, answer):
    windows = windows_of(squad([at(answer)]), tokenizer)
    ids = tokenizer(answer, add_special_tokens=False)["input_ids"]
    found = 0
    for number in range(len(windows)):
        example = windows[number]
        tokens, (start, end, length, first, after) = list(example["input_ids"]), example["labels"]
        assert (length, tokens[first - 1], tokens[after]) == (
            len(tokens),
            tokenizer.sep_token_id,
            tokenizer.sep_token_id,
        )
        has_it = any(tokens[place : place + len(ids)] == ids for place in range(first, after - len(ids) + 1))
        assert (tokens[start : end + 1] == ids) if has_it else ((start, end) == (0, 0))
        found += has_it
    assert found == 0 if len(ids) > 8 else found >= 1


def test_the_windows_of_a_cache_are_those_that_were_made(tokenizer, tmp_path):
    def keep(kind, key, *, make, read):
        folder = tmp_path / kind
        if not folder.exists():
            folder.mkdir()
            make(folder)
        return read(folder)

    examples = read(squad([at("dull")], [at("film")]))
    made = TASK.encode(examples, tokenizer)
    for _ in range(2):
        kept = TASK.encode(examples, tokenizer, fingerprint="a", keep=keep)
        assert np.array_equal(kept.encoded.labels, made.encoded.labels)
        assert list(kept.questions) == list(made.questions)
        assert all(
            np.array_equal(kept.encoded.features[name], values) for name, values in made.encoded.features.items()
        )
        assert tokenizer.backend_tokenizer.truncation["strategy"] == "longest_first"


def test_a_question_that_leaves_no_room_is_refused(tokenizer):
    given = rows(question=["a", "the film " * 5], context=["b"] * 2, answers=[{"text": ["b"], "answer_start": [0]}] * 2)
    with pytest.raises(DataError, match=r"the question in row 2 of the train split has 10 tokens, .* 9 is the most"):
        windows_of(given, tokenizer)
    assert len(windows_of(given, tokenizer, QuestionAnswering(max_length=16, stride=2))) == 2


def batch_of(windows, tokenizer, numbers):
    return TASK.collator(tokenizer)([windows[number] for number in numbers])


@pytest.fixture
def model(source, tokenizer):
    return TASK.load_model(source, classes=(), processor=tokenizer, seed=0).model.eval()


def test_the_loss_is_that_of_transformers_model(tokenizer, model):
    windows = windows_of(squad([at("dull")], [at("film")]), tokenizer)
    batch = batch_of(windows, tokenizer, [0, 1, 2])
    labels = batch.pop("labels")
    assert batch["attention_mask"].all()
    outputs = model(**batch, start_positions=labels[:, 0], end_positions=labels[:, 1])
    assert TASK.training_loss(outputs, labels).item() == pytest.approx(outputs.loss.item(), rel=1e-6)
    assert TASK.training_loss(outputs, labels, 30).item() == pytest.approx(outputs.loss.item() / 2, rel=1e-6)


def test_neither_loss_nor_answers_depend_on_padding(tokenizer, model):
    windows = windows_of(squad([at("dull")], [at("film")]), tokenizer, QuestionAnswering(max_length=48, stride=3))
    batch = TASK.collator(tokenizer)([windows[0]])
    wide = {name: torch.nn.functional.pad(tensor, (0, 8)) for name, tensor in batch.items() if name != "labels"}
    kept = []
    for inputs in ({name: tensor for name, tensor in batch.items() if name != "labels"}, wide):
        with torch.no_grad():
            kept.append(TASK.kept_outputs(model(**inputs), batch["labels"]))
    for name, values in kept[0].items():
        assert torch.allclose(values.float(), kept[1][name].float(), atol=1e-5), name
    assert kept[0]["starts"].shape == (1, TASK.n_best)


def plain_search(start_logits, end_logits, bounds, task):
    """Returns the best span of a question by trying every one in its windows: its score, window, first and last token.

    `bounds`: the first token of the context of each window, and the one after its last. Spans are made of the n_best
    starts and ends, as in transformers' examples, and all that is found is sorted.
    """
    found = []
    for window, (first, after) in enumerate(bounds):
        context = range(first, after)
        starts = sorted(context, key=lambda token: -start_logits[window][token])[: task.n_best]
        ends = sorted(context, key=lambda token: -end_logits[window][token])[: task.n_best]
        found += [
            (float(start_logits[window][start]) + float(end_logits[window][end]), window, start, end)
            for start in starts
            for end in ends
            if start <= end < start + task.max_answer_length
        ]
    return sorted(found, reverse=True)[: task.n_best]


@pytest.mark.parametrize("n_best", [1, 3, 20])
@pytest.mark.parametrize("longest", [1, 4, 30])
def test_answers_are_those_of_a_plain_search(n_best, longest):
    task = QuestionAnswering(n_best=n_best, max_answer_length=longest, null_threshold=0.0)
    generator = torch.Generator().manual_seed(n_best * 100 + longest)
    questions = np.array([0, 0, 0, 1, 2, 2])
    bounds = torch.tensor([[5, 30], [5, 40], [5, 12], [9, 9], [3, 38], [3, 4]])
    start, end = torch.randn(2, 6, 40, generator=generator) * 3
    labels = torch.cat([torch.zeros(6, 2, dtype=torch.int64), torch.full((6, 1), 40), bounds], dim=1)
    kept = task.kept_outputs(SimpleNamespace(start_logits=start, end_logits=end), labels)
    ends = Ends(**{name: tensor.numpy() for name, tensor in kept.items() if name != "losses"})
    for may_be_none in (True, False):
        best = best_spans(ends, questions, count=3, longest=longest, n_best=n_best, may_be_none=may_be_none)
        for question in range(3):
            own = np.flatnonzero(questions == question)
            expected = plain_search(start[own], end[own], bounds[own].tolist(), task)
            none = min(float(start[window, 0]) + float(end[window, 0]) for window in own)
            assert best.none[question] == pytest.approx(none)
            if not expected:
                assert (best.windows[question], best.scores[question]) == (-1, -math.inf)
                continue
            score, window, first, last = expected[0]
            assert (best.windows[question], best.first[question], best.last[question]) == (own[window], first, last)
            assert best.scores[question] == pytest.approx(score)
            powers = [math.exp(each[0] - score) for each in expected] + may_be_none * [math.exp(none - score)]
            assert best.probabilities[question] == pytest.approx(1 / sum(powers))


def outputs_for(windows, tokens, none):
    """Returns outputs by which each window's best span is `tokens` of it (first, last, score), or no answer by `none`."""
    count = len(windows)
    scores = np.full((count, 2), -np.inf)
    scores[:, 0] = [score for _, _, score in tokens]
    places = np.zeros((2, count, 2), dtype=np.int64)
    places[:, :, 0] = np.array([(first, last) for first, last, _ in tokens]).T
    return {
        "losses": np.ones(count),
        "none": np.array(none, dtype=float),
        "start_scores": scores,
        "end_scores": np.where(np.isfinite(scores), 0.0, -np.inf),
        "starts": places[0],
        "ends": places[1],
    }


def test_the_answer_is_cut_from_the_context_of_its_best_window(tokenizer):
    windows = windows_of(squad([at("dull")]), tokenizer)
    tokens = [
        (label[3], label[3] + 1, score) for label, score in zip(windows.encoded.labels, [1, 3, 2, 0, 0], strict=False)
    ]
    outputs = outputs_for(windows, tokens, [9.0] * len(windows))
    columns = TASK.prediction_columns(outputs, windows, ())
    words = CONTEXT.split()
    assert columns["prediction"] == [" ".join(words[5:7])]  # eight words a window, three of them shared
    assert columns["start"][0] == CONTEXT.index(columns["prediction"][0])
    judged = TASK.judge(outputs, windows, ())
    assert judged.answers.predictions == columns["prediction"]
    assert judged.answers.references == [("dull",)]
    assert judged.loss == 1.0


@pytest.mark.parametrize(
    ("threshold", "is_given"), [(-1.0, False), (0.0, True), (1.0, True), (-0.4, True), (-0.6, False)]
)
def test_no_answer_is_given_where_its_score_is_above_by_the_threshold(tokenizer, threshold, is_given):
    task = QuestionAnswering(max_length=16, stride=3, null_threshold=threshold)
    windows = windows_of(squad([]), tokenizer, task)
    tokens = [(label[3], label[3], 2.0) for label in windows.encoded.labels]
    columns = task.prediction_columns(outputs_for(windows, tokens, [7.0, 1.5, 8.0, 9.0][: len(windows)]), windows, ())
    assert (columns["prediction"] != [""]) == is_given
    assert (columns["start"][0] >= 0) == is_given
    assert task.label_columns(windows, ()) == {"label": [[]]}
