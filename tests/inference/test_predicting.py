"""`load_run`: the recorded predictions again, and what it refuses."""

import shutil

import numpy as np
import pytest

from finetune import load_run
from finetune.errors import DataError, ModelError, RecordError, RunError, SettingError
from finetune.inference.predictor import Predictor
from finetune.training.prediction import joined
from tests.inference.finished import record_of, recorded, texts_of


@pytest.fixture(scope="module")
def predictor(finished_run):
    return load_run(finished_run)


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
    rows = recorded(adapted_run).to_pydict()
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
    with record_of(adapted_run) as record:
        record["recipe"]["model"]["path"] = str(model)
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
