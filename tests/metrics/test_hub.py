"""Metrics of others: from a folder, as from the Hub, and only where they are trusted."""

import pytest

from finetune.errors import SettingError
from finetune.metrics import check_metric, greater_is_better, load_metric
from finetune.metrics.answers import Answers
from tests.metrics.drawn import drawn

SCRIPT = """
import datasets
import evaluate


class Given(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description="", citation="", features=datasets.Features({features})
        )

    def _compute(self, {columns}):
        return {result}
"""
CLASSES = '{"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}'
TEXTS = '{"predictions": datasets.Value("string"), "references": datasets.Value("string")}'
SEVERAL = '{"predictions": datasets.Value("string"), "references": datasets.Sequence(datasets.Value("string"))}'
TAGS = '{name: datasets.Sequence(datasets.Value("string")) for name in ("predictions", "references")}'
SHARE = "sum(map(lambda p, r: p == r, predictions, references)) / len(references)"


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """Where `evaluate` copies programs to, one folder for all tests: it imports them as parts of one package."""
    return str(tmp_path_factory.mktemp("modules"))


@pytest.fixture
def script(tmp_path, modules, monkeypatch):
    """Writes a metric into a folder; returns its name for `load_metric`."""
    monkeypatch.setattr("evaluate.config.HF_MODULES_CACHE", modules)

    def write(result=f'{{"share": {SHARE}}}', features=CLASSES, columns="predictions, references", name="given"):
        folder = tmp_path / name
        folder.mkdir()
        text = SCRIPT.replace("{features}", features).replace("{columns}", columns).replace("{result}", result)
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
        return f"hub:{folder}"

    return write


def load(name):
    return load_metric(name, trust_remote_code=True)


def test_its_only_number_is_the_value(script):
    name = script()
    metric, answers = load(name), drawn("classes", 40)
    accuracy = load_metric("accuracy")
    assert metric.value(answers) == pytest.approx(accuracy.value(answers))
    assert metric.standard_error(answers) == pytest.approx(accuracy.standard_error(answers), rel=0.2)
    assert metric.metric_name == name
    assert metric.compute(predictions=[0, 1], references=[0, 0]) == {"share": 0.5}


def test_a_key_says_which_number(script):
    name = script(result='{"one": 1.0, "two": 2, "each": [1, 2]}')
    answers = drawn("classes", 3)
    assert load(f"{name}.two").value(answers) == 2.0
    with pytest.raises(
        SettingError, match=r"gives no single number; its numbers are one, two: name one as hub:NAME.KEY"
    ):
        load(name).value(answers)
    with pytest.raises(SettingError, match=r"gives no three; its numbers are one, two"):
        load(f"{name}.three").value(answers)


def test_an_array_of_one_number_is_that_number(script):
    array = '{"share": __import__("numpy").array([0.25]), "each": [1, 2]}'
    assert load(script(result=array)).value(drawn("classes", 3)) == 0.25


def test_one_that_gives_no_numbers_is_one_clear_error(script):
    with pytest.raises(SettingError, match="gives no single number; its numbers are none"):
        load(script(result="None")).value(drawn("classes", 3))


def test_a_file_is_no_key(script):
    name = f"{script()}/given.py"
    assert load(name).value(drawn("classes", 5)) == load_metric("accuracy").value(drawn("classes", 5))


def test_tags_are_handed_over(script):
    answers = drawn("tags", 5)
    expected = sum(map(list.__eq__, answers.predictions, answers.references)) / 5
    assert load(script(features=TAGS)).value(answers) == expected


def test_several_accepted_texts_go_to_those_that_take_them(script):
    answers = Answers("texts", ["a", "b", ""], [("a", "x"), ("y",), ()])
    within = "sum(map(lambda p, r: p in r, predictions, references)) / 3"
    assert load(script(features=SEVERAL, result=f'{{"in": {within}}}')).value(answers) == pytest.approx(1 / 3)
    one = load(script(features=TEXTS, name="one"))
    with pytest.raises(SettingError, match="takes one accepted text per example, and there are several"):
        one.value(answers)
    assert one.value(answers.take([1, 2])) == pytest.approx(1 / 2)


def test_it_is_not_run_unless_trusted(script):
    name = script()
    with pytest.raises(
        SettingError, match="is a program of others: read it, and set trust_remote_code if you trust it"
    ):
        load_metric(name)


@pytest.mark.parametrize("form", ["classes", "label_sets", "numbers", "tags", "texts"])
def test_its_name_is_checked_without_loading_it(form):
    check_metric("hub:there_is_none", form)


def test_what_no_metric_of_the_hub_scores():
    with pytest.raises(SettingError, match=r"can't score tokens: give one of token_accuracy, perplexity"):
        check_metric("hub:accuracy", "tokens")


@pytest.mark.parametrize("name", ["hub:", "hub: ", "hub:./"])
@pytest.mark.parametrize("ask", [load, lambda name: check_metric(name, "classes")])
def test_an_empty_name_is_refused(name, ask):
    with pytest.raises(SettingError, match=r"names no metric: give hub:NAME or hub:NAME.KEY"):
        ask(name)


def test_which_of_its_values_is_better_is_not_known():
    with pytest.raises(
        SettingError, match="\"hub:mse\" doesn't say whether more of it is better: it can't rank models"
    ):
        greater_is_better("hub:mse")


def test_one_that_doesnt_exist_is_one_clear_error(tmp_path):
    with pytest.raises(
        SettingError, match=r"can't be loaded: check the name .*/none, the connection and what it requires"
    ):
        load(f"hub:{tmp_path / 'none'}")


def test_without_a_connection_the_error_is_one_message(run_offline):
    printed = run_offline(
        "from finetune.metrics import load_metric\n"
        "try: load_metric('hub:bleu.precision', trust_remote_code=True)\n"
        "except ValueError as error: print(type(error).__name__, error)"
    )
    assert printed.startswith('SettingError metrics: "hub:bleu.precision" can\'t be loaded: check the name bleu, ')


def test_one_whose_program_is_broken_is_one_clear_error(script):
    with pytest.raises(SettingError, match=r"can't be loaded: .* \(NameError: name 'nothing' is not defined\)"):
        load(script(features="nothing"))


def test_one_that_takes_other_columns_is_refused(script):
    features = '{"prediction_scores": datasets.Value("float64"), "references": datasets.Value("int64")}'
    with pytest.raises(SettingError, match="takes prediction_scores, references, not predictions and references alone"):
        load(script(features=features))


def test_answers_it_cant_take_are_one_clear_error(script):
    with pytest.raises(SettingError, match="failed on texts: "):
        load(script()).value(Answers("texts", ["cat"], [("dog",)]))
