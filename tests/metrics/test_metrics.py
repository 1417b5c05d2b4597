"""The table of metrics: what it says, what it refuses, and metrics of a user's own."""

import subprocess
import sys

import pytest

from finetune.errors import SettingError
from finetune.metrics import FORMS, METRICS, check_metric, greater_is_better, load_metric, metrics_of, register_metric
from finetune.metrics.base import Metric


@pytest.mark.parametrize("name", METRICS)
def test_the_table_says_what_the_class_says(name):
    metric, row = load_metric(name), METRICS[name]
    assert (metric.metric_name, metric.forms, metric.greater_is_better) == (name, row.forms, row.greater_is_better)
    assert metric.formula
    assert greater_is_better(name) is row.greater_is_better


def test_less_is_better_of_errors_alone():
    lower = {"calibration_error", "mse", "rmse", "mae", "perplexity"}
    assert {name for name in METRICS if not greater_is_better(name)} == lower


def test_every_form_has_a_metric():
    assert all(metrics_of(form) for form in FORMS)
    assert metrics_of("tokens") == ("token_accuracy", "perplexity")


def test_a_metric_that_scores_the_form_passes():
    check_metric("f1_macro", "label_sets")


def test_a_form_that_a_metric_cant_score_lists_those_that_can():
    with pytest.raises(
        SettingError, match=r'^metrics: "accuracy" can\'t score tokens: give one of token_accuracy, perplexity$'
    ):
        check_metric("accuracy", "tokens")


@pytest.mark.parametrize("ask", [load_metric, greater_is_better, lambda name: check_metric(name, "classes")])
def test_an_unknown_name_lists_the_choices(ask):
    with pytest.raises(
        SettingError, match=r'"acuracy" is not one of accuracy, .* \(did you mean accuracy\?\)'
    ) as caught:
        ask("acuracy")
    assert caught.value.field == "metrics"


def test_the_table_is_read_without_numpy():
    code = (
        "import sys\nfrom finetune.metrics import METRICS, check_metric\n"
        "for name, row in METRICS.items(): check_metric(name, row.forms[0])\n"
        "check_metric('hub:bleu', 'texts')\n"
        "print(sorted({'numpy', 'evaluate', 'datasets', 'scipy', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_value_needs_no_library_but_numpy():
    code = (
        "import sys\nfrom finetune.metrics import METRICS, load_metric\n"
        "for name in METRICS: load_metric(name)\n"
        "print(sorted({'evaluate', 'datasets', 'scipy', 'sklearn', 'seqeval', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_computing_leaves_no_files(run_offline, hub_cache):
    def files():
        return sorted(path for path in hub_cache.rglob("*") if path.is_file())

    before, names = files(), [name for name in metrics_of("classes") if not load_metric(name).needs_scores]
    printed = run_offline(
        "from finetune.metrics import load_metric\n"
        f"for name in {names}: print(load_metric(name).compute(predictions=[0, 1], references=[0, 1])[name])"
    )
    assert printed.split() == ["1.0"] * len(names)
    assert files() == before


@pytest.fixture
def table(monkeypatch):
    """The table, put back afterwards."""
    monkeypatch.setattr("finetune.metrics.METRICS", dict(METRICS))


class Errors(Metric):
    """How many classes are predicted wrongly."""

    formula = "wrong"
    forms = ("classes",)
    greater_is_better = False

    def value(self, answers):
        return float((answers.predictions != answers.references).sum())


@pytest.mark.usefixtures("table")
def test_a_registered_metric_is_had_by_name():
    assert register_metric("errors")(Errors) is Errors
    assert register_metric("errors")(Errors) is Errors  # a file that is read again
    check_metric("errors", "classes")
    assert not greater_is_better("errors")
    assert load_metric("errors").compute(predictions=[0, 1, 1], references=[0, 0, 0]) == {"errors": 2.0}


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize(
    ("name", "kind", "problem"),
    [
        ("accuracy", Errors, r'"accuracy" is taken by finetune.metrics.classification:Accuracy: choose another'),
        ("my errors", Errors, r"'my errors' must be up to 50 letters, digits, and . _ \+ -"),
        ("hub:errors", Errors, r"'hub:errors' must be up to 50"),
        ("errors", dict, r"errors: <class 'dict'> must extend Metric"),
        ("errors", type("Empty", (Metric,), {}), r"errors: value\(answers\) is missing"),
        ("errors", type("Mute", (Errors,), {"formula": None}), r"errors: formula, a text, is missing"),
        (
            "errors",
            type("Odd", (Errors,), {"forms": ("images",)}),
            r"errors: forms is \('images',\), and must be a tuple of",
        ),
        (
            "errors",
            type("Bare", (Errors,), {"forms": "classes"}),
            r"errors: forms is 'classes', and must be a tuple of",
        ),
    ],
)
def test_what_cant_be_registered(name, kind, problem):
    with pytest.raises(SettingError, match=f"^register_metric: {problem}"):
        register_metric(name)(kind)
