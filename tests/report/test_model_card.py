"""The card of a run's model: what the Hub reads, what people read, and nothing that a stranger wrote in as markup."""

import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from transformers.pipelines import SUPPORTED_TASKS

from finetune.evaluation.markdown import code, code_block
from finetune.evaluation.record import read_record
from finetune.recipe import load_recipe
from finetune.report.model_card import CALLS, model_card, schedule_picture, tag_of

HOSTILE = (
    "</code><img src=x onerror=alert(1)> | `` ` ``` [a](http://b.example) ![c](http://d.example) **e** --- \n---\n# f"
)


@pytest.fixture(scope="module")
def record(finished_run):
    return read_record(finished_run)


def changed(record, **parts):
    """Returns the record with settings of blocks of its recipe put in place of what was there."""
    recipe = {**record.recipe, **{block: {**record.recipe[block], **part} for block, part in parts.items()}}
    return record.model_copy(update={"recipe": recipe})


def read_card(folder, record):
    path = folder / "README.md"
    path.write_text(model_card(record))
    return ModelCard.load(path)


def rendered(markdown):
    """Returns what a CommonMark renderer makes of the card's text, tables and raw HTML included."""
    return MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown)


class Page(HTMLParser):
    """Collects the tags, and the text in each element of code."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.codes, self._in_code = set(), [], False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.add((tag, dict(attributes).get("src"), dict(attributes).get("href")))
        self._in_code = tag == "code"
        if self._in_code:
            self.codes.append("")

    def handle_endtag(self, tag):
        self._in_code = False

    def handle_data(self, data):
        if self._in_code:
            self.codes[-1] += data


def test_a_run_leaves_the_card_of_its_model(finished_run, record):
    assert (finished_run / "model" / "README.md").read_text() == model_card(record)
    assert (finished_run / "model" / "schedule.svg").read_text() == schedule_picture(record)


def test_the_hub_reads_the_recorded_scores(tmp_path, record):
    data = read_card(tmp_path, record).data
    found = {(each.dataset_split, each.metric_type): each.metric_value for each in data.eval_results}
    assert found == {
        (split, name): score.value
        for split, result in record.results.splits.items()
        for name, score in result.metrics.items()
    }
    assert (data.library_name, data.pipeline_tag, data.metrics) == (
        "transformers",
        "text-classification",
        ["accuracy", "f1_macro"],
    )
    assert "cosine-schedule" in data.tags
    assert data.license is None
    assert (data.base_model, data.datasets) == (None, None)


def test_the_hub_learns_of_the_base_and_the_data_set(tmp_path, record):
    ours = changed(
        record,
        model={"hub": "google-bert/bert-base-uncased", "path": None},
        data={"hub": "nyu-mll/glue", "config": "sst2", "splits": {"validation": "dev", "test": "test"}, "files": None},
    )
    data = read_card(tmp_path, ours).data
    assert (data.base_model, data.base_model_relation) == ("google-bert/bert-base-uncased", "finetune")
    assert data.datasets == ["nyu-mll/glue"]
    first = data.eval_results[0]
    assert (first.dataset_type, first.dataset_config, first.dataset_split) == ("nyu-mll/glue", "sst2", "test")
    assert {each.dataset_split for each in data.eval_results} == {"test", "dev"}


def test_a_score_that_is_not_finite_is_left_out(tmp_path, record):
    whole = record.model_dump()
    whole["results"]["splits"]["test"]["metrics"]["accuracy"] = {"value": None, "standard_error": None}
    card = read_card(tmp_path, type(record).model_validate(whole))
    assert ("test", "accuracy") not in {(each.dataset_split, each.metric_type) for each in card.data.eval_results}
    assert "| `test` | 60 | `accuracy` | – | – |" in card.text


def test_the_same_record_gives_the_same_card(record):
    assert model_card(record) == model_card(read_record_again(record))


def read_record_again(record):
    return type(record).model_validate_json(record.model_dump_json())


def test_people_read_what_the_record_says(record):
    text = " ".join(model_card(record).split())
    score = record.results.splits["test"].metrics["f1_macro"]
    for words in (
        f"| `test` | 60 | `f1_macro` | {score.value:.4f} | {score.standard_error:.4f} |",
        f"after {record.results.kept_step} of 26 updates",
        "| `warmup` | `10%` |",
        "| seed | `0` |",
        "One run, of seed 0",
        'answer = pipeline("text-classification", model=".")',
        "Classes: `negative`, `positive`.",
    ):
        assert words in text


def test_it_names_no_place_of_the_machine(finished_run, record):
    ours = record.model_copy(update={"recipe": {**record.recipe, "plugins": [str(finished_run / "plugin.py")]}})
    text = model_card(ours)
    assert str(finished_run.parents[2]) not in text
    assert "plugin.py" in text


def test_the_recipe_in_it_is_one(tmp_path, record, tiny_model):
    lines = MarkdownIt("commonmark").parse(model_card(record).partition("## To make it again")[2])
    block = next(token.content for token in lines if token.type == "code_block")
    path = tmp_path / "again.yaml"
    path.write_text(block)
    loaded = load_recipe(path, [f"model.path={tiny_model}"])
    assert loaded.schedule.to_dict() == record.recipe["schedule"]
    assert loaded.training.model_dump(mode="json") == record.recipe["training"]


def test_strangers_write_no_markup_into_it(tmp_path, record):
    identity = record.identity.model_copy(
        update={
            "classes": [HOSTILE, "b"],
            "model": record.identity.model.model_copy(update={"source": HOSTILE, "architecture": HOSTILE}),
        }
    )
    ours = changed(record, task={"text": HOSTILE, "name": HOSTILE}, optimizer={"eps": HOSTILE})
    settings = record.schedule.model_copy(update={"settings": {"name": HOSTILE, HOSTILE: HOSTILE}})
    ours = ours.model_copy(update={"identity": identity, "schedule": settings, "name": HOSTILE})
    card = read_card(tmp_path, ours)
    page = Page(rendered(card.text))
    names = {tag for tag, _, _ in page.tags}
    assert {source for _, source, _ in page.tags if source} == {"schedule.svg"}
    assert {link for _, _, link in page.tags if link} == set()
    assert names <= {*("h1 h2 p code pre img table thead tbody tr th td ul li".split())}
    assert " ".join(HOSTILE.split()) in page.codes
    assert "<img src=x" not in schedule_picture(ours)
    assert yaml.safe_load(card.content.split("---\n")[1])["model-index"][0]["name"] == HOSTILE


@pytest.mark.parametrize("text", ["a", "`", "``a`", "a`b``", "|", "<b>", "http://a.example", "a\nb", "\x1b[31m"])
def test_code_shows_what_it_is_of(text):
    shown = "\\x1b[31m" if text.startswith("\x1b") else text.replace("\n", " ")
    assert Page(rendered(f"x {code(text)} y")).codes == [shown]
    assert Page(rendered(f"| x |\n| :-- |\n| {code(text, in_table=True)} |")).codes == [shown]


def test_a_block_of_code_ends_nowhere_but_at_its_end():
    text = "a\n```\n\n# b\n---\n<b>"
    assert Page(rendered(code_block(text))).codes == [text + "\n"]


def test_the_picture_is_a_drawing_that_says_in_words_what_it_shows(record):
    root = ElementTree.fromstring(schedule_picture(record))
    words = "".join(root.itertext())
    rates = record.schedule.groups[0].rates
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "5e-3 at most" in words
    assert "cosine" in words
    assert max(rates) == 5e-3
    assert len(rates) == 26


def test_groups_with_rates_of_their_own_have_curves_of_their_own(record):
    one, two = record.schedule.groups
    slower = two.model_copy(update={"name": "encoder", "rates": [rate / 10 for rate in two.rates]})
    ours = record.model_copy(update={"schedule": record.schedule.model_copy(update={"groups": [one, slower]})})
    words = "".join(ElementTree.fromstring(schedule_picture(ours)).itertext())
    assert "decay" in words
    assert "encoder" in words


def of_architecture(record, architecture):
    model = record.identity.model.model_copy(update={"architecture": architecture})
    return record.model_copy(update={"identity": record.identity.model_copy(update={"model": model})})


@pytest.mark.parametrize(
    ("architecture", "tag"),
    [
        ("BertForSequenceClassification", "text-classification"),
        ("ViTForImageClassification", "image-classification"),
        ("GPT2LMHeadModel", "text-generation"),
        ("BertForQuestionAnswering", "question-answering"),
        ("BertForMultipleChoice", None),
    ],
)
def test_the_class_of_a_model_says_what_it_does(record, architecture, tag):
    ours = of_architecture(record, architecture)
    assert tag_of(ours) == tag
    line = f'pipeline("{tag}"' if tag in CALLS else f"from transformers import {architecture}"
    assert line in model_card(ours)


def test_the_pipelines_that_it_names_are_those_of_transformers():
    assert {*CALLS} <= {*SUPPORTED_TASKS}
