"""What a table is taken for."""

import pytest
from datasets import ClassLabel, Dataset, Features, Value

from finetune.data import Rows
from finetune.errors import SettingError
from finetune.proposing import propose_task
from finetune.tasks import as_task

WORDS = ["a film", "the story", "a long night", "the end"]


def rows(**columns):
    return Rows.of_dataset(Dataset.from_dict(columns))


SQUAD = {"text": ["film"], "answer_start": [2]}


@pytest.mark.parametrize(
    ("columns", "settings"),
    [
        (
            {"text": WORDS, "label": ["a", "b", "a", "b"]},
            {"name": "text_classification", "text": "text", "label": "label"},
        ),
        (
            {"id": [1, 2, 3, 4], "Review": WORDS, "Sentiment": [0, 1, 0, 1]},
            {"name": "text_classification", "text": "Review", "label": "Sentiment"},
        ),
        (
            {"short": ["x"] * 4, "what": WORDS, "kind": ["p", "q", "p", "q"]},
            {"name": "text_classification", "text": "what", "label": "kind"},
        ),
        (
            {"premise": WORDS, "hypothesis": WORDS, "label": [0, 1, 2, 0]},
            {"name": "text_classification", "text": "premise", "text_pair": "hypothesis", "label": "label"},
        ),
        (
            {"text": WORDS, "score": [0.5, 1.5, 2.0, 3.25]},
            {"name": "text_regression", "text": "text", "label": "score"},
        ),
        ({"text": WORDS, "labels": [["a"], [], ["b"], []]}, {"name": "multi_label", "text": "text", "label": "labels"}),
        (
            {"tokens": [["a", "film"]], "ner_tags": [["O", "B-X"]]},
            {"name": "token_classification", "tokens": "tokens", "tags": "ner_tags"},
        ),
        (
            {"question": WORDS, "choices": [["a", "b"]] * 4, "label": [0, 1, 0, 1]},
            {"name": "multiple_choice", "choices": "choices", "label": "label", "text": "question"},
        ),
        ({"question": WORDS, "context": WORDS, "answers": [SQUAD] * 4}, {"name": "question_answering"}),
        (
            {"prompt": WORDS, "completion": WORDS},
            {"name": "causal_language_modelling", "prompt": "prompt", "completion": "completion", "loss_on": "answers"},
        ),
        (
            {"messages": [[{"role": "user", "content": "a"}]]},
            {"name": "causal_language_modelling", "messages": "messages", "loss_on": "answers"},
        ),
    ],
    ids=lambda value: value.get("name", ""),
)
def test_a_table_tells_its_task(columns, settings):
    proposal = propose_task(rows(**columns))
    assert proposal.settings == settings
    assert as_task(dict(settings)).name == settings["name"]


def test_whole_numbers_are_classes_as_long_as_they_are_few():
    few = rows(text=["a"] * 200, label=[number % 5 for number in range(200)])
    many = rows(text=["a"] * 200, label=list(range(200)))
    assert propose_task(few).settings["name"] == "text_classification"
    assert propose_task(many).settings["name"] == "text_regression"


def test_numbers_with_names_are_classes():
    names = [str(number) for number in range(60)]
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    given = Dataset.from_dict({"text": ["a"] * 60, "label": list(range(60))}, features=features)
    with pytest.raises(SettingError, match="label has 60 different values in 60 rows, too many"):
        propose_task(Rows.of_dataset(given))


def test_what_is_given_is_kept():
    given = rows(title=WORDS, text=WORDS, label=["a", "b"] * 2, rating=[0.5, 1.0, 1.5, 2.0])
    assert propose_task(given, text="title", label="rating").settings == {
        "name": "text_regression",
        "text": "title",
        "label": "rating",
    }
    assert propose_task(rows(text=WORDS), task="masked_language_modelling").settings["text"] == "text"


@pytest.mark.parametrize(
    ("columns", "asked", "message"),
    [
        (
            {"text": WORDS, "label": [0, 1, 0, 1]},
            {"text": "texd"},
            r'--text: there is no column "texd".*did you mean text',
        ),
        ({"text": WORDS}, {}, "--label: no column looks like labels, of text: name it"),
        ({"label": [0, 1, 0, 1]}, {}, "--text: no column holds text"),
    ],
)
def test_what_is_missing_is_named_by_the_option_that_gives_it(columns, asked, message):
    with pytest.raises(SettingError, match=message):
        propose_task(rows(**columns), **asked)
