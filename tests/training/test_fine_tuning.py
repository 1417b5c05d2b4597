"""One run from recipe to record: what it applies, what it leaves, and what it doesn't disturb."""

import io
import json
import math
import os
from pathlib import Path

import pyarrow.parquet
import pytest
import torch
import yaml
from safetensors.torch import load_file

from finetune.errors import RecordError
from finetune.evaluation.record import HISTORY, MODEL, RECIPE, RECORD, read_history, read_record
from finetune.metrics import load_metric
from finetune.recipe import load_recipe
from finetune.schedules import make_schedule
from finetune.training import fine_tuning
from finetune.training.selection import Selection
from finetune.training.trainer import ScheduledTrainer

BRIEF = ("training.duration=6", "evaluation.every=null", "checkpoints.every=null")


def weights(run):
    return load_file(run / MODEL / "model.safetensors")


def assert_equal_weights(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def updates(run):
    return [row for row in read_history(run) if "rates" in row]


@pytest.mark.parametrize(
    ("schedule", "settings"),
    [
        ("cosine", {"warmup": "10%"}),
        ("linear", {"warmup": 2, "floor": 0.1}),
        ("step", {"every": "0.5ep", "gamma": 0.5, "warmup": 0}),
    ],
)
def test_every_update_is_made_at_the_rate_of_the_formula(train, schedule, settings):
    overrides = [f"schedule={schedule}", *(f"schedule.{key}={value}" for key, value in settings.items())]
    record, run = train(*overrides, "evaluation.every=null", "checkpoints.every=null")
    total, per_epoch = record.schedule.total_steps, record.schedule.updates_per_epoch
    assert total == 2 * per_epoch
    factor = make_schedule(schedule, **settings).resolve(total_steps=total, updates_per_epoch=per_epoch)
    expected = [5e-3 * factor(t) for t in range(total)]
    assert {group.name for group in record.schedule.groups} == {"decay", "no_decay"}
    for group in record.schedule.groups:
        assert group.rates == pytest.approx(expected, rel=1e-12)
        assert [row["rates"][group.name] for row in updates(run)] == group.rates


def test_a_run_with_evaluations_is_bit_equal_to_one_without(train):
    _, often = train("evaluation.every=2", "evaluation.keep=last", "checkpoints.every=null")
    _, never = train("evaluation.every=null", "evaluation.keep=last", "checkpoints.every=null")
    assert_equal_weights(weights(often), weights(never))
    assert [row["loss"] for row in updates(often)] == [row["loss"] for row in updates(never)]


def test_a_run_learns_and_repeats_bit_for_bit(train):
    learning = ("optimizer.learning_rate=1e-2",)
    record, run = train(*learning)
    first = weights(run)
    assert record.results.splits["test"].metrics["accuracy"].value > 0.8
    again, _ = train(*learning, repeat=True)
    assert_equal_weights(first, weights(run))
    assert again.results == record.results


def test_seeds_change_the_head_and_the_batches(train):
    one, _ = train(*BRIEF)
    other, _ = train(*BRIEF, "training.seed=1")
    assert one.identity.model.initial_weights != other.identity.model.initial_weights
    assert one.identity.batches != other.identity.batches
    assert one.identity.data == other.identity.data


def test_schedules_share_the_head_and_the_batches(train):
    one, _ = train(*BRIEF)
    other, _ = train(*BRIEF, "schedule=step")
    assert one.identity == other.identity


def test_the_saved_recipe_is_the_resolved_one(train, small_recipe):
    record, run = train(*BRIEF, "schedule.floor=0.25")
    saved = load_recipe(run / RECIPE)
    assert saved.schedule.floor == 0.25
    assert saved.to_dict() == record.recipe
    assert yaml.safe_load((run / RECIPE).read_text())["training"]["batch_size"] == 16


def test_predictions_give_the_recorded_metrics(train):
    record, run = train("evaluation.every=2")
    for split in ("validation", "test"):
        table = pyarrow.parquet.read_table(run / "predictions" / f"{split}.parquet").to_pydict()
        result = record.results.splits[split]
        right = [label == prediction for label, prediction in zip(table["label"], table["prediction"], strict=True)]
        assert len(right) == result.count == 60
        assert sum(right) / 60 == pytest.approx(result.metrics["accuracy"].value)
        loss = [-math.log(table[f"probability_{label}"][row]) for row, label in enumerate(table["label"])]
        assert sum(loss) / 60 == pytest.approx(result.loss, rel=1e-6)


def test_predictions_are_in_the_order_of_the_split(train, small_recipe):
    _, run = train(*BRIEF)
    recipe = yaml.safe_load(small_recipe.read_text())
    path = small_recipe.parent / recipe["data"]["files"]["test"]
    labels = pyarrow.parquet.read_table(path).column("label").to_pylist()
    table = pyarrow.parquet.read_table(run / "predictions" / "test.parquet").to_pydict()
    assert table["row"] == list(range(len(labels)))
    assert table["label"] == labels


def test_the_kept_model_is_the_best_and_loads_by_itself(train):
    record, run = train("evaluation.every=2", "optimizer.learning_rate=2e-2", "schedule=constant")
    evaluations = {row["step"]: row["evaluation"]["accuracy"] for row in read_history(run) if "evaluation" in row}
    best = max(evaluations.values())
    first_best = next(step for step, accuracy in evaluations.items() if accuracy == best)
    assert record.results.kept_step == record.results.best.step == first_best
    assert record.results.splits["validation"].metrics["accuracy"].value == best

    from transformers import pipeline

    table = pyarrow.parquet.read_table(run / "predictions" / "validation.parquet").to_pydict()
    sentences = [json.loads(line)["sentence"] for line in _validation_file(record).read_text().splitlines()]
    answers = pipeline("text-classification", model=str(run / MODEL), device="cpu")(sentences)
    assert [answer["label"] for answer in answers] == table["prediction"]


def _validation_file(record):
    from pathlib import Path

    return Path(record.recipe["data"]["files"]["validation"][0])


def test_the_last_model_is_kept_on_request(train):
    record, _ = train("evaluation.every=2", "evaluation.keep=last")
    assert record.results.kept_step == record.schedule.total_steps == record.results.last.step


def test_the_history_has_a_row_for_every_update(train):
    record, run = train("evaluation.every=3", "training.duration=10")
    rows = updates(run)
    assert [row["step"] for row in rows] == list(range(1, 11))
    assert all(row["loss"] > 0 and row["gradient_norm"] > 0 for row in rows)
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds)
    assert [row["step"] for row in read_history(run) if "evaluation" in row] == [3, 6, 9, 10]
    assert record.timing.train_seconds == seconds[-1]


def test_a_record_is_written_when_its_history_is_on_disk(train, monkeypatch):
    on_disk, original = {}, os.fsync

    def fsync(descriptor):
        original(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        on_disk[path.name] = path.read_text(encoding="utf-8") if path.name == HISTORY else True
        if RECORD in path.name:
            on_disk["before the record"] = on_disk.get(HISTORY)

    monkeypatch.setattr(os, "fsync", fsync)
    _, run = train(*BRIEF)
    assert on_disk["before the record"] == (run / HISTORY).read_text(encoding="utf-8")


def test_the_loss_of_the_first_update_is_the_mean_over_its_batch(train, steady_model, monkeypatch):
    """At update 0 of a warmup nothing has changed yet: the loss is that of the model as it was loaded."""
    seen = []
    original = ScheduledTrainer.training_step

    def spy(self, model, inputs, *args, **kwargs):
        if not seen:
            copied = {name: tensor.clone() for name, tensor in inputs.items()}
            with torch.no_grad():
                logits = model(**{name: tensor for name, tensor in copied.items() if name != "labels"}).logits
            seen.append(torch.nn.functional.cross_entropy(logits.double(), copied["labels"]).item())
        return original(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(ScheduledTrainer, "training_step", spy)
    _, run = train(*BRIEF, f"model.path={steady_model}")
    assert updates(run)[0]["loss"] == pytest.approx(seen[0], rel=1e-5)


def test_accumulation_changes_neither_rates_nor_losses(train, steady_model):
    model = f"model.path={steady_model}"
    _, whole = train(model, "training.duration=1ep", "evaluation.every=null")
    in_parts = ("name=parts", "training.micro_batch_size=6")
    record, parts = train(model, "training.duration=1ep", "evaluation.every=null", *in_parts)
    assert record.environment.accumulation == 3
    assert [row["rates"] for row in updates(parts)] == [row["rates"] for row in updates(whole)]
    assert [row["loss"] for row in updates(parts)] == pytest.approx([row["loss"] for row in updates(whole)], rel=1e-4)


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd", "rmsprop", "adagrad", "adafactor"])
def test_every_optimizer_trains_at_the_rates_of_the_schedule(train, optimizer):
    record, run = train(*BRIEF, f"optimizer={optimizer}", "schedule.warmup=0", "optimizer.learning_rate=1e-3")
    factor = make_schedule("cosine").resolve(total_steps=6)
    for group in record.schedule.groups:
        assert group.rates == pytest.approx([1e-3 * factor(t) for t in range(6)])
    assert record.status == "finished"
    assert len({row["loss"] for row in updates(run)}) == 6


def test_bf16_is_computed_where_it_is_asked_for_and_weights_stay_fp32(train):
    record, run = train(*BRIEF, "training.precision=bf16")
    assert record.environment.precision == "bf16"
    assert {tensor.dtype for tensor in weights(run).values()} == {torch.float32}


def test_accelerates_own_precision_is_the_one_recorded(train, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    out = io.StringIO()
    record, _ = train(*BRIEF, "training.precision=fp32", out=out)
    assert record.environment.precision == "bf16"
    assert "bf16 on cpu" in out.getvalue()
    assert "the recipe asked for fp32" in out.getvalue()


def test_a_recorded_run_is_not_run_again(train, monkeypatch):
    record, run = train(*BRIEF)
    written = (run / RECORD).stat().st_mtime_ns
    monkeypatch.setattr(fine_tuning, "make_plan", None)
    out = io.StringIO()
    again, _ = train(*BRIEF, out=out)
    assert again == record
    assert (run / RECORD).stat().st_mtime_ns == written
    assert "already recorded" in out.getvalue()


def test_a_recorded_run_on_data_that_has_changed_is_refused(train, small_recipe):
    train(*BRIEF)
    _drop_last_line(small_recipe.parent / "validation.jsonl")
    with pytest.raises(RecordError, match="the validation split has changed since"):
        train(*BRIEF)


def _drop_last_line(path):
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def test_a_run_that_diverges_stops_and_says_so(train):
    record, run = train("optimizer=sgd", "optimizer.learning_rate=1e30", "training.gradient_clipping=null", *BRIEF[1:])
    assert record.status == "diverged"
    assert record.results is None
    assert updates(run)[record.diverged_at_step - 1]["loss"] is None
    assert read_record(run) == record
    assert len(updates(run)) < record.schedule.total_steps


class _InterruptedError(Exception):
    pass


def test_an_interrupted_run_goes_on_from_its_checkpoint_bit_for_bit(train, monkeypatch):
    often = ("checkpoints.every=5", "evaluation.every=4")
    whole, run = train(*often)
    expected, history = weights(run), updates(run)
    original = ScheduledTrainer.training_step

    def interrupt(self, *args, **kwargs):
        if self.state.global_step == 12:
            raise _InterruptedError
        return original(self, *args, **kwargs)

    monkeypatch.setattr(ScheduledTrainer, "training_step", interrupt)
    with pytest.raises(_InterruptedError):
        train(*often, repeat=True)
    assert not (run / RECORD).exists()
    assert (run / "checkpoints" / "checkpoint-10").is_dir()
    monkeypatch.setattr(ScheduledTrainer, "training_step", original)

    out = io.StringIO()
    record, _ = train(*often, out=out)
    assert "after update 10" in out.getvalue()
    assert_equal_weights(weights(run), expected)
    assert record.results == whole.results
    strip = [{key: row[key] for key in ("step", "rates", "loss")} for row in updates(run)]
    assert strip == [{key: row[key] for key in ("step", "rates", "loss")} for row in history]
    assert not (run / "checkpoints").exists()


def test_an_interrupted_run_does_not_go_on_with_other_data(train, small_recipe, monkeypatch):
    def interrupt(self, *args, **kwargs):
        raise _InterruptedError

    monkeypatch.setattr(Selection, "validate", interrupt)
    with pytest.raises(_InterruptedError):
        train("checkpoints.every=5")
    _drop_last_line(small_recipe.parent / "train.csv")
    with pytest.raises(RecordError, match="the train split has changed since"):
        train("checkpoints.every=5")


def test_the_plan_and_the_results_are_shown(train):
    out = io.StringIO()
    train(out=out)
    text = out.getvalue()
    for part in ("200 train", "60 validation", "negative, positive", "adamw, peak rate 0.005", "updates", "kept"):
        assert part in text
    assert "left" in text
    assert text.count("validation:") == 2


def test_the_standard_error_of_accuracy_is_the_binomial_one(train):
    record, _ = train(*BRIEF)
    score = record.results.splits["test"].metrics["accuracy"]
    assert score.standard_error == pytest.approx(math.sqrt(score.value * (1 - score.value) / 60))
    assert load_metric("accuracy").metric_name in record.results.splits["test"].metrics


def test_the_history_file_is_named_as_the_record_says(train):
    _, run = train(*BRIEF)
    assert {HISTORY, RECORD, RECIPE, MODEL, "predictions"} == {path.name for path in run.iterdir()}
