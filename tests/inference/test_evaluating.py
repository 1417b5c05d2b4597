"""`finetune evaluate`: later data scored as the run scored its own, beside it, and refused where it can't be."""

import json
import math
import shutil

import numpy as np
import pytest
from pyarrow import parquet
from sklearn.metrics import precision_recall_fscore_support

from finetune.evaluation.record import Score, SplitResult
from finetune.inference.evaluating import LaterScores, scores_of_classes
from finetune.metrics.answers import Answers


@pytest.fixture(scope="module")
def files(finished_run):
    """The folder of the files that the run was made on."""
    return finished_run.parents[2]


def scored(finetune, run, *arguments):
    code, out, _ = finetune("evaluate", run, *arguments, "--json")
    assert code == 0
    return json.loads(out)


def test_the_test_split_scores_what_the_record_says(finetune, finished_run, files):
    found = scored(finetune, finished_run, files / "test.parquet")
    recorded = json.loads((finished_run / "record.json").read_text())["results"]["splits"]["test"]
    assert found["count"] == recorded["count"] == 60
    assert found["loss"] == pytest.approx(recorded["loss"], rel=1e-5)
    assert list(found["metrics"]) == ["accuracy", "f1_macro"]
    for name, score in recorded["metrics"].items():
        value, error = found["metrics"][name]["value"], found["metrics"][name]["standard_error"]
        assert (value, error) == pytest.approx((score["value"], score["standard_error"]))
        assert found["metrics"][name]["interval"] == pytest.approx(
            [value - 1.96 * error, value + 1.96 * error], abs=1e-4
        )
        assert "difference" not in found["metrics"][name]
    assert found["same_as"] == "test"
    assert "the run's own test examples" in found["caution"]


@pytest.mark.parametrize(
    ("name", "words"),
    [("train.csv", "the very examples that the run was trained on"), ("validation.jsonl", "may have been chosen")],
)
def test_the_runs_other_splits_are_cautioned_of(finetune, finished_run, files, name, words):
    found = scored(finetune, finished_run, files / name)
    assert found["same_as"] == name.partition(".")[0]
    assert words in found["caution"]


def write_later(folder, rows):
    path = folder / "later.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_table_by_class_is_that_of_scikit_learn(finetune, finished_run, files):
    found = scored(finetune, finished_run, files / "test.parquet", "--metrics", "accuracy")
    table = parquet.read_table(finished_run / "predictions" / "test.parquet")
    expected = precision_recall_fscore_support(
        table.column("label").to_pylist(), table.column("prediction").to_pylist()
    )
    of_each = zip(found["classes"], *expected, strict=True)
    for each, precision, recall, f1, count in of_each:
        assert (each["precision"], each["recall"], each["f1"]) == pytest.approx((precision, recall, f1))
        assert each["count"] == count
    assert [each["name"] for each in found["classes"]] == ["negative", "positive"]
    assert list(found["metrics"]) == ["accuracy"]


def test_the_table_of_sets_of_labels_is_that_of_scikit_learn():
    generator = np.random.default_rng(0)
    true, predicted = generator.integers(2, size=(2, 40, 3))
    found = list(scores_of_classes(Answers("label_sets", predicted, true, names=("a", "b", "c"))))
    expected = precision_recall_fscore_support(true, predicted)
    assert [each.precision for each in found] == pytest.approx(list(expected[0]))
    assert [each.recall for each in found] == pytest.approx(list(expected[1]))
    assert [each.count for each in found] == list(expected[3])


def test_a_class_that_is_never_predicted_has_no_precision():
    answers = Answers("classes", np.array([0, 0]), np.array([0, 1]), names=("a", "b", "c"))
    _, never, absent = scores_of_classes(answers)
    assert (never.precision, never.recall, never.f1) == (None, 0.0, 0.0)
    assert (absent.count, absent.recall, absent.f1) == (0, None, None)


def result(value, error):
    return SplitResult(count=100, loss=0.5, metrics={"accuracy": Score(value=value, standard_error=error)})


def test_the_difference_from_the_test_split_adds_up_both_errors():
    found = LaterScores(result(0.80, 0.03), (), test=result(0.95, 0.04), same_as=None).difference("accuracy")
    assert found.value == pytest.approx(-0.15)
    assert found.interval == pytest.approx((-0.15 - 1.95996 * 0.05, -0.15 + 1.95996 * 0.05), abs=1e-5)
    assert found.is_clear


def test_a_difference_within_its_error_is_not_clear():
    found = LaterScores(result(0.90, 0.03), (), test=result(0.95, 0.04), same_as=None).difference("accuracy")
    assert not found.is_clear


@pytest.mark.parametrize("test", [None, result(None, None)])
def test_no_difference_from_what_is_not_known(test):
    assert LaterScores(result(0.9, 0.03), (), test=test, same_as=None).difference("accuracy") is None


def test_later_data_of_which_every_label_is_wrong_is_said_to_be_worse(finetune, finished_run, files, tmp_path):
    rows = parquet.read_table(files / "test.parquet").to_pylist()
    other = {"negative": "positive", "positive": "negative"}
    path = write_later(tmp_path, [{**row, "label": other[row["label"]]} for row in rows])
    code, out, _ = finetune("evaluate", finished_run, path)
    recorded = json.loads((finished_run / "record.json").read_text())["results"]["splits"]["test"]["metrics"]
    accuracy = recorded["accuracy"]["value"]
    assert code == 0
    assert f"accuracy is lower than on the run's own test split by {2 * accuracy - 1:.4f}, which is worse" in " ".join(
        out.split()
    )
    assert "caution" not in out
    line = next(line.split() for line in out.splitlines() if line.startswith("accuracy  "))
    assert line[1] == f"{1 - accuracy:.4f}"
    assert line[2] == f"{math.sqrt(accuracy * (1 - accuracy) / 60):.4f}"


def test_labels_that_the_model_does_not_know(finetune, finished_run, tmp_path, monkeypatch):
    from finetune.inference import predictor

    monkeypatch.setattr(predictor, "load_predictor", lambda *a, **k: pytest.fail("the model was loaded"))
    path = write_later(tmp_path, [{"sentence": "a film", "label": "positive"}, {"sentence": "so so", "label": "mixed"}])
    code, _, err = finetune("evaluate", finished_run, path)
    assert code == 2
    assert "holds 'mixed' in row 2" in err
    assert "those are 'negative', 'positive'" in err


def test_data_without_labels(finetune, finished_run, tmp_path):
    code, _, err = finetune("evaluate", finished_run, write_later(tmp_path, [{"sentence": "a film"}]))
    assert code == 2
    assert 'jsonl has no column "label"; it has sentence' in err


@pytest.mark.parametrize(
    ("metrics", "message"),
    [("accurate", "did you mean accuracy?"), ("rmse", "can't score classes"), ("hub:mine", "is a program of others")],
)
def test_metrics_that_cannot_be_had(finetune, finished_run, files, metrics, message):
    code, _, err = finetune("evaluate", finished_run, files / "test.parquet", "--metrics", metrics)
    assert code == 2
    assert message in err


def test_what_is_scored_matches_labels_by_name(finetune, copied_run, files, tmp_path):
    # A ClassLabel of another data set, whose numbers are the other way round.
    import datasets

    rows = parquet.read_table(files / "test.parquet").to_pylist()
    names = ["positive", "negative"]
    features = datasets.Features({"sentence": datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
    columns = {"sentence": [row["sentence"] for row in rows], "label": [names.index(row["label"]) for row in rows]}
    datasets.Dataset.from_dict(columns, features=features).to_parquet(tmp_path / "later.parquet")
    shutil.copy(files / "test.parquet", tmp_path)
    one, two = (scored(finetune, copied_run, tmp_path / name) for name in ("test.parquet", "later.parquet"))
    assert one["metrics"]["accuracy"]["value"] == two["metrics"]["accuracy"]["value"]


def test_scores_over_files_count_all_their_rows(finetune, finished_run, files):
    found = scored(finetune, finished_run, files / "train.csv", files / "test.parquet", "--metrics", "f1_macro")
    assert (found["count"], found["same_as"]) == (260, None)
    assert isinstance(found["metrics"]["f1_macro"]["difference"], float)


def test_an_answer_of_another_form_has_no_table():
    assert list(scores_of_classes(Answers("numbers", np.zeros(2), np.ones(2)))) == []
