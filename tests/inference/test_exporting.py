"""`finetune export`: ONNX that computes what the model does, for any shape of batch, or nothing at all."""

import sys

import numpy as np
import pytest

from finetune.inference import onnx_export
from tests.docs.pages import called, lines, words_of
from tests.inference.finished import record_of, recorded, texts_of

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

_, EXPORT = lines("README.md", "## After training", "finetune push")


@pytest.fixture(scope="module")
def exported(finished_run, tmp_path_factory):
    """The folder that the README's command makes, and what was found when the model in it was checked."""
    place, found, export = tmp_path_factory.mktemp("exported"), [], onnx_export.export

    def watched(*arguments, **options):
        found.append(export(*arguments, **options))
        return found[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(onnx_export, "export", watched)
        assert called(EXPORT.replace("runs/…/…", str(finished_run))) == 0
    return place / words_of(EXPORT)[-1], found[0]


@pytest.mark.slow
def test_it_is_checked_on_the_validation_split(exported):
    folder, found = exported
    assert found.examples == 60
    assert found.outputs == ["logits"]
    assert {*found.inputs} == {"input_ids", "attention_mask", "token_type_ids"}
    assert 0 <= found.difference < 1e-5
    assert {path.name for path in folder.iterdir()} == {
        *("model.onnx", "config.json", "tokenizer.json", "tokenizer_config.json")
    }


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3])
def test_another_program_gets_the_recorded_predictions(exported, finished_run, count):
    # Nothing of ours but the folder: a batch of a length that the exporter never saw.
    from transformers import AutoTokenizer

    folder, _ = exported
    texts = texts_of(finished_run)[:count]
    given = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="np")
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {name: array.astype(np.int64) for name, array in given.items()})
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = recorded(finished_run).column("probability_positive").to_numpy()[:count]
    np.testing.assert_allclose(shares[:, 1], expected, atol=1e-5)


def refused(finetune, *arguments, code=2):
    found, out, err = finetune("export", *arguments)
    assert (found, out) == (code, "")
    assert err.count("\n") == 1
    return err


@pytest.mark.slow
def test_a_model_that_computes_something_else_is_not_written(finetune, finished_run, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "_of_batch", lambda *_: np.float64(0.2))
    err = refused(finetune, finished_run, tmp_path / "onnx", code=1)
    assert "the exported model differs by 2.00e-01 from the model itself, and 0.0001 is the most" in err
    assert list(tmp_path.iterdir()) == []


def test_outputs_that_are_not_finite_are_no_agreement(finetune, finished_run, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "_write_onnx", lambda *_: (["input_ids"], ["logits"]))
    monkeypatch.setattr(onnx_export, "_difference", lambda *_: float("nan"))
    assert "differs by nan" in refused(finetune, finished_run, tmp_path / "onnx", code=1)
    assert list(tmp_path.iterdir()) == []


def test_the_largest_difference_of_all_batches_counts(monkeypatch):
    found = iter([0.1, 0.3, 0.2])
    monkeypatch.setattr(onnx_export, "_batches", lambda *_: range(3))
    monkeypatch.setattr(onnx_export, "_of_batch", lambda *_: next(found))
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: None)
    assert onnx_export._difference(None, None, "model.onnx") == 0.3


def test_a_folder_that_is_there(finetune, finished_run, tmp_path):
    assert "exists; pass --overwrite to replace it" in refused(finetune, finished_run, tmp_path)


def test_a_file_in_place_of_a_folder(finetune, finished_run, tmp_path):
    (tmp_path / "onnx").write_text("mine")
    assert "is a file; give a folder" in refused(finetune, finished_run, tmp_path / "onnx", "--overwrite")


def test_libraries_that_are_missing(finetune, finished_run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    message = refused(finetune, finished_run, tmp_path / "onnx")
    assert "needs onnxscript: pip install 'finetune-schedules[onnx]'" in message


def test_validation_data_that_is_gone(finetune, copied_run, tmp_path):
    with record_of(copied_run) as record:
        record["recipe"]["data"]["files"]["validation"] = [str(tmp_path / "gone.csv")]
    message = refused(finetune, copied_run, tmp_path / "onnx")
    assert "gone.csv: no such file; to check the exported model on other rows, give their file by --check" in message


def test_a_model_that_the_exporter_cannot_take(finetune, finished_run, tmp_path, monkeypatch):
    import torch

    def fail(*args, **options):
        raise NotImplementedError("no such operator\nand a long trace")

    monkeypatch.setattr(torch.onnx, "export", fail)
    message = refused(finetune, finished_run, tmp_path / "onnx")
    assert "BertForSequenceClassification can't be exported: no such operator" in message
    assert list(tmp_path.iterdir()) == []
