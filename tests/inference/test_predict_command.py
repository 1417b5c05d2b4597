"""`finetune predict`: files of any kind, whole or not at all, and what is refused before a model is loaded."""

import csv
import io
import json
import os
import signal
import sys

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from finetune.cli import prediction
from finetune.inference.finished import read_finished
from finetune.inference.predictor import Predictor
from finetune.inference.tables import table_file
from tests.inference.finished import record_of, recorded, texts_of


def write_input(folder, suffix, rows):
    path = folder / f"later{suffix}"
    if suffix == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


ROWS = [
    {"id": 7, "sentence": "a brilliant and charming film"},
    {"id": 8, "sentence": "a dull and tedious film"},
    {"id": 9, "sentence": "moving"},
]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".json", ".jsonl", ".parquet"])
def test_every_kind_of_file_gives_the_same_lines(finetune, finished_run, tmp_path, suffix):
    code, out, _ = finetune("predict", finished_run, write_input(tmp_path, suffix, ROWS))
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [line["id"] for line in lines] == [7, 8, 9]
    assert [line["prediction"] for line in lines] == ["positive", "negative", "positive"]
    for line in lines:
        assert line["probability_negative"] + line["probability_positive"] == pytest.approx(1)


def read_output(path):
    if path.suffix == ".parquet":
        return parquet.read_table(path).to_pylist()
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    with path.open(newline="") as file:
        return [{**row, "id": int(row["id"])} for row in csv.DictReader(file)]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_every_kind_of_output(finetune, finished_run, tmp_path, suffix):
    given, output = write_input(tmp_path, ".csv", ROWS), tmp_path / "out" / f"predictions{suffix}"
    code, out, err = finetune("predict", finished_run, given, given, "--output", output)
    assert (code, out, err) == (0, "", f"{output}: 6 rows\n")
    found = read_output(output)
    assert [(row["id"], row["prediction"]) for row in found] == [(7, "positive"), (8, "negative"), (9, "positive")] * 2
    assert list(found[0]) == ["id", "sentence", "prediction", "probability_negative", "probability_positive"]
    assert [path.name for path in output.parent.iterdir()] == [output.name]


def test_parts_make_no_difference(finetune, finished_run, tmp_path, monkeypatch):
    given = write_input(tmp_path, ".parquet", [{"sentence": text} for text in texts_of(finished_run)])
    monkeypatch.setattr(prediction.predict, "__kwdefaults__", {"part_rows": 7})
    output = tmp_path / "parts.parquet"
    assert finetune("predict", finished_run, given, "--output", output, "--only-predictions")[0] == 0
    expected = recorded(finished_run)
    assert parquet.ParquetFile(output).num_row_groups == 9
    found = parquet.read_table(output)
    assert found.column_names == ["prediction", "probability_negative", "probability_positive"]
    assert found.column("prediction").to_pylist() == expected.column("prediction").to_pylist()
    np.testing.assert_allclose(found.column("probability_positive"), expected.column("probability_positive"), atol=1e-6)


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_rows_that_are_piped_in(finetune, finished_run, tmp_path, monkeypatch, kind):
    content = write_input(tmp_path, f".{kind}", ROWS).read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    code, out, _ = finetune("predict", finished_run, "-", "--format", kind, "--only-predictions")
    assert code == 0
    assert [json.loads(line)["prediction"] for line in out.splitlines()] == ["positive", "negative", "positive"]


def test_broken_rows_that_are_piped_in_are_called_standard_input(finetune, finished_run, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"{")))
    code, _, err = finetune("predict", finished_run, "-")
    assert code == 2
    assert err.startswith("finetune: standard input: can't be read as jsonl")


@pytest.fixture
def refused(finetune, finished_run, tmp_path, monkeypatch):
    """Runs `finetune predict` on the three rows, without loading a model; returns the message it is refused with."""
    from finetune.inference import predictor

    monkeypatch.setattr(predictor, "load_predictor", lambda *a, **k: pytest.fail("the model was loaded"))

    def refused(*options, run=finished_run, rows=ROWS, suffix=".jsonl"):
        code, out, err = finetune("predict", run, write_input(tmp_path, suffix, rows), *options)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
        return err

    return refused


def test_a_run_that_is_none(refused, tmp_path):
    assert "absent: no such directory" in refused(run=tmp_path / "absent")


def test_a_folder_of_runs(refused, finished_run):
    assert f"holds 1 runs, and one is needed: give one such as {finished_run}" in refused(run=finished_run.parent)


def test_a_run_without_its_model(refused, copied_run):
    (copied_run / "model").rename(copied_run / "elsewhere")
    assert "its model folder is gone" in refused(run=copied_run)


def test_a_run_that_diverged(refused, copied_run):
    with record_of(copied_run) as record:
        record |= {"status": "diverged", "diverged_at_step": 3, "results": None}
    assert "diverged at update 3, so it has no model to trust" in refused(run=copied_run)


def test_a_task_that_is_not_known(refused, copied_run):
    with record_of(copied_run) as record:
        record["recipe"]["task"]["name"] = "divination"
    assert 'its task can\'t be read: name: "divination" is not one of' in refused(run=copied_run)


def test_plugins_that_are_not_allowed(refused, copied_run):
    with record_of(copied_run) as record:
        record["recipe"]["plugins"] = ["/home/stranger/plugin.py"]
    assert "pass --allow-plugins if you trust it" in refused(run=copied_run)


def test_plugins_that_are_allowed_are_run(copied_run, tmp_path):
    plugin = tmp_path / "plugin.py"
    plugin.write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    with record_of(copied_run) as record:
        record["recipe"]["plugins"] = [str(plugin)]
    read_finished(copied_run, allow_plugins=True)
    assert (tmp_path / "ran").exists()


def test_a_column_that_is_missing(refused):
    message = refused(rows=[{"sentense": "a film"}])
    assert 'jsonl has no column "sentence"; it has sentense (did you mean sentense?)' in message


def test_a_text_that_is_missing(refused):
    assert "is empty in row 2" in refused(rows=[{"sentence": "a film"}, {"sentence": None}])


def test_no_rows(refused):
    assert "later.jsonl: can't be read as jsonl: it is empty" in refused(rows=[])


def test_an_output_of_another_kind(refused, tmp_path):
    assert "out.xlsx must end in .csv, .jsonl, .parquet" in refused("--output", tmp_path / "out.xlsx")


def test_an_output_that_is_there(finetune, refused, finished_run, tmp_path):
    output = tmp_path / "out.csv"
    output.write_text("mine")
    assert "out.csv exists; pass --overwrite to replace it" in refused("--output", output)
    assert output.read_text() == "mine"


def test_an_output_that_is_there_is_replaced_on_demand(finetune, finished_run, tmp_path):
    output = tmp_path / "out.csv"
    output.write_text("mine")
    given = write_input(tmp_path, ".jsonl", ROWS)
    assert finetune("predict", finished_run, given, "--output", output, "--overwrite")[0] == 0
    assert len(read_output(output)) == 3


def test_what_is_piped_in_beside_files(refused):
    assert "can't be read along with files" in refused("-")


def test_an_unknown_format(finetune, finished_run):
    code, _, err = finetune("predict", finished_run, "-", "--format", "xml")
    assert code == 2
    assert '"xml" is not one of csv, tsv, json, jsonl, parquet' in err


def test_binary_columns_are_not_written_as_text(refused):
    rows = [{"sentence": "a film", "photo": {"bytes": b"\xff"}}]
    assert "columns photo of the data can't be written as text" in refused(rows=rows, suffix=".parquet")


def test_columns_of_the_data_that_predictions_would_replace(finetune, finished_run, tmp_path):
    given = write_input(tmp_path, ".jsonl", [{"sentence": "a film", "prediction": "mine"}])
    output = tmp_path / "out.jsonl"
    code, _, err = finetune("predict", finished_run, given, "--output", output)
    assert code == 2
    assert "the data has columns that predictions are written to: prediction" in err
    assert [path for path in tmp_path.iterdir() if "out" in path.name] == []


def test_what_fails_half_way_leaves_nothing(tmp_path):
    def interrupted(path):
        with table_file(path) as writer:
            writer.write(pyarrow.table({"prediction": ["a"]}))
            raise KeyboardInterrupt

    for name in ("out.csv", "out.jsonl", "out.parquet"):
        with pytest.raises(KeyboardInterrupt):
            interrupted(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_sigterm_half_way_leaves_nothing(finetune, finished_run, tmp_path, monkeypatch):
    original = Predictor.predict

    def predict(self, rows):
        os.kill(os.getpid(), signal.SIGTERM)
        return original(self, rows)

    monkeypatch.setattr(Predictor, "predict", predict)
    before = signal.getsignal(signal.SIGTERM)
    given = write_input(tmp_path, ".jsonl", ROWS)
    code, _, _ = finetune("predict", finished_run, given, "--output", tmp_path / "out.csv")
    assert code == 143
    assert [path.name for path in tmp_path.iterdir()] == ["later.jsonl"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_values_that_text_has_no_sign_for(tmp_path):
    part = pyarrow.table({"score": [float("nan"), 0.1], "tags": [["a", "b"], []], "seen": [True, None]})
    for name in ("out.csv", "out.jsonl"):
        with table_file(tmp_path / name) as writer:
            writer.write(part)
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == [
        {"score": None, "tags": ["a", "b"], "seen": True},
        {"score": 0.1, "tags": [], "seen": None},
    ]
    with (tmp_path / "out.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["score", "tags", "seen"], ["", '["a", "b"]', "true"], ["0.1", "[]", ""]]
