"""`finetune predict` and `load_run`: the recorded predictions again, of files of any kind, whole or not at all."""

import csv
import io
import json
import os
import shutil
import signal
import sys

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from finetune import load_run
from finetune.cli import prediction
from finetune.errors import DataError, ModelError, RecordError, RunError, SettingError
from finetune.inference.finished import read_finished
from finetune.inference.predictor import Predictor
from finetune.inference.tables import table_file
from finetune.training.prediction import joined


@pytest.fixture(scope="module")
def predictor(finished_run):
    return load_run(finished_run)


def recorded(run, split="test"):
    return parquet.read_table(run / "predictions" / f"{split}.parquet")


def texts_of(run):
    return parquet.read_table(run.parents[2] / "test.parquet").column("sentence").to_pylist()


def test_predictions_are_those_that_the_run_recorded(predictor, finished_run):
    predicted = predictor(texts_of(finished_run))
    expected = recorded(finished_run)
    assert predicted.column("prediction").to_pylist() == expected.column("prediction").to_pylist()
    for name in ("probability_negative", "probability_positive"):
        np.testing.assert_allclose(predicted.column(name), expected.column(name), atol=1e-6)


def test_rows_and_texts_are_predicted_alike_and_in_order(finished_run):
    texts = texts_of(finished_run)
    asked = load_run(finished_run, batch_size=7)
    by_rows = asked([{"sentence": text, "label": "unheard of"} for text in texts])
    assert by_rows.column("prediction").to_pylist() == recorded(finished_run).column("prediction").to_pylist()


def test_bf16_is_near(finished_run):
    predicted = load_run(finished_run, precision="bf16")(texts_of(finished_run))
    exact = recorded(finished_run)
    assert predicted.column("probability_positive").to_pylist() != exact.column("probability_positive").to_pylist()
    np.testing.assert_allclose(
        predicted.column("probability_positive"), exact.column("probability_positive"), atol=0.05
    )


def test_asking_leaves_the_global_generators_alone(finished_run):
    import torch

    torch.manual_seed(11)
    before = torch.get_rng_state()
    load_run(finished_run)(["a dull film"])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ("one text", "give a list of examples"),
        ([], "the given split is empty"),
        ([1, 2], "a text, or a mapping"),
        ([{"text": "no such column"}], 'has no column "sentence"'),
        ([{"sentence": 3}, {"sentence": "four"}], "make no table"),
    ],
)
def test_examples_that_cannot_be_read(predictor, examples, message):
    with pytest.raises(DataError, match=message):
        predictor(examples)


def test_outputs_of_several_widths_are_joined_as_the_trainer_does():
    # transformers' own nested_concat is what the recorded outputs went through.
    from transformers.trainer_pt_utils import nested_concat

    one, two = np.arange(6).reshape(2, 3), np.arange(8).reshape(2, 4)
    np.testing.assert_array_equal(joined([one, two], padding=-100), nested_concat(one, two, padding_index=-100))


def test_memory_that_runs_out_names_the_batch_size(predictor, monkeypatch):
    def fail(*args):
        raise MemoryError

    monkeypatch.setattr(Predictor, "_outputs", fail)
    with pytest.raises(RunError, match="with 32 examples at a time: give a batch size of 16"):
        predictor(["a dull film"])


def test_weights_that_lack_the_head_are_refused(copied_run):
    from safetensors.torch import load_file, save_file

    path = copied_run / "model" / "model.safetensors"
    tensors = {name: tensor for name, tensor in load_file(path).items() if not name.startswith("classifier")}
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lack classifier\.bias, classifier\.weight, so it would answer at random"):
        load_run(copied_run)


@pytest.fixture
def adapted_run(train):
    """The directory of a run that kept its adapter apart, on a copy of a model that may be spoilt."""
    pytest.importorskip("peft", reason="adapters need the extra finetune-schedules[adapters]")
    _, run = train(
        "adapter={rank: 4, dora: true, merge: false}", "optimizer.learning_rate=0.02", "checkpoints.every=null"
    )
    return run


@pytest.mark.slow
def test_an_adapter_that_was_kept_apart_answers_as_it_was_scored(adapted_run):
    rows = parquet.read_table(adapted_run / "predictions" / "test.parquet").to_pydict()
    found = load_run(adapted_run)(texts_of(adapted_run)).to_pydict()
    assert found["prediction"] == rows["prediction"]
    assert found["probability_positive"] == pytest.approx(rows["probability_positive"], abs=1e-5)


@pytest.mark.slow
def test_an_adapter_whose_model_is_another_is_refused(adapted_run, tiny_model, tmp_path):
    from safetensors.torch import load_file, save_file

    model = shutil.copytree(tiny_model, tmp_path / "other")
    tensors = load_file(model / "model.safetensors")
    save_file(
        tensors | {"pooler.dense.bias": tensors["pooler.dense.bias"] + 1}, model / "model.safetensors", {"format": "pt"}
    )
    record = json.loads((adapted_run / "record.json").read_text())
    record["recipe"]["model"]["path"] = str(model)
    (adapted_run / "record.json").write_text(json.dumps(record))
    with pytest.raises(ModelError, match=r"isn't the model that the adapter in .* was trained on"):
        load_run(adapted_run)


@pytest.mark.slow
def test_an_adapter_that_was_altered_is_refused(adapted_run):
    from safetensors.torch import load_file, save_file

    path = adapted_run / "model" / "adapter_model.safetensors"
    tensors = load_file(path)
    save_file(dict([*tensors.items()][1:]), path, {"format": "pt"})
    with pytest.raises(RecordError, match=r"its weights don't fit the model that was trained; was it altered\?"):
        load_run(adapted_run)


def test_a_batch_size_of_none(finished_run):
    with pytest.raises(SettingError, match="batch-size: 0 must be 1 or more"):
        load_run(finished_run, batch_size=0)


# The command.


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
    record = json.loads((copied_run / "record.json").read_text())
    record |= {"status": "diverged", "diverged_at_step": 3, "results": None}
    (copied_run / "record.json").write_text(json.dumps(record))
    assert "diverged at update 3, so it has no model to trust" in refused(run=copied_run)


def test_a_task_that_is_not_known(refused, copied_run):
    record = json.loads((copied_run / "record.json").read_text())
    record["recipe"]["task"]["name"] = "divination"
    (copied_run / "record.json").write_text(json.dumps(record))
    assert 'its task can\'t be read: name: "divination" is not one of' in refused(run=copied_run)


def test_plugins_that_are_not_allowed(refused, copied_run):
    record = json.loads((copied_run / "record.json").read_text())
    record["recipe"]["plugins"] = ["/home/stranger/plugin.py"]
    (copied_run / "record.json").write_text(json.dumps(record))
    assert "pass --allow-plugins if you trust it" in refused(run=copied_run)


def test_plugins_that_are_allowed_are_run(copied_run, tmp_path):
    plugin = tmp_path / "plugin.py"
    plugin.write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    record = json.loads((copied_run / "record.json").read_text())
    record["recipe"]["plugins"] = [str(plugin)]
    (copied_run / "record.json").write_text(json.dumps(record))
    read_finished(copied_run, allow_plugins=True)
    assert (tmp_path / "ran").exists()


def test_a_column_that_is_missing(refused):
    message = refused(rows=[{"sentense": "a film"}])
    assert 'jsonl has no column "sentence"; it has sentense (did you mean sentense?)' in message


def test_a_text_that_is_missing(refused):
    assert "is empty in 1 row, the first of them row 2" in refused(rows=[{"sentence": "a film"}, {"sentence": None}])


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
