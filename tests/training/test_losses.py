"""Smoothed labels and weighted classes: torch's own losses, however a batch is cut."""

from types import SimpleNamespace

import pytest
import torch

from finetune.errors import DataError, SettingError
from finetune.evaluation.record import read_history
from finetune.recipe import load_recipe
from finetune.tasks import TextClassification
from finetune.tasks.masked_language_modelling import MaskedLanguageModelling
from finetune.tasks.token_classification import TokenClassification
from finetune.training.losses import ClassLoss, training_loss
from finetune.training.trainer import ScheduledTrainer
from tests import tiny

CLASSES = ("a", "b", "c")
WHOLE = ("training.duration=1ep", "evaluation.every=null", "checkpoints.every=null", "evaluation.keep=last")
NEGATIVE = sum(row["label"] == 0 for row in tiny.sentences(200, seed=1))
SETTINGS = {
    "{label_smoothing: 0.1}": [1.0, 1.0],
    "{class_weights: {negative: 3.0, positive: 0.5}}": [3.0, 0.5],
    "{label_smoothing: 0.2, class_weights: balanced}": [100 / NEGATIVE, 100 / (200 - NEGATIVE)],
}
"""Settings, and the weights that they give the two classes of the train split's 200 sentences."""


def outputs(count=12, classes=3, seed=0):
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, classes, generator=draw, requires_grad=True)
    labels = torch.randint(classes, (count,), generator=draw)
    return logits, labels


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 4.0]])
def test_the_loss_and_its_gradient_are_torchs_however_the_batch_is_cut(smoothing, weights):
    weights = None if weights is None else torch.tensor(weights)
    loss = ClassLoss(TextClassification(), smoothing=smoothing, weights=weights)
    logits, labels = outputs()
    expected = torch.nn.CrossEntropyLoss(weight=weights, label_smoothing=smoothing)(logits, labels)
    (gradient,) = torch.autograd.grad(expected, logits)
    count = sum(loss.count(part) for part in labels.split([5, 1, 6]))
    parts = zip(logits.split([5, 1, 6]), labels.split([5, 1, 6]), strict=True)
    made = sum(loss(SimpleNamespace(logits=part), numbers, num_items_in_batch=count) for part, numbers in parts)
    torch.testing.assert_close(made, expected)
    torch.testing.assert_close(torch.autograd.grad(made, logits)[0], gradient)
    torch.testing.assert_close(loss(SimpleNamespace(logits=logits), labels), expected)


def test_labels_that_do_not_count_have_no_weight():
    loss = ClassLoss(TextClassification(), weights=torch.tensor([2.0, 3.0]))
    assert loss.count(torch.tensor([[0, -100], [1, 1]])) == 2.0 + 3.0 + 3.0
    assert ClassLoss(TextClassification()).count(torch.tensor([[0, -100], [1, 1]])) == 3


@pytest.mark.parametrize(("task", "weighed"), [(TokenClassification(), True), (MaskedLanguageModelling(), False)])
def test_each_token_that_counts_has_a_smoothed_label(task, weighed):
    logits, labels = outputs(count=24)
    labels[::3] = -100
    weights = torch.tensor([0.5, 1.0, 4.0]) if weighed else None
    loss = ClassLoss(task, smoothing=0.1, weights=weights)
    made = loss(SimpleNamespace(logits=logits.view(4, 6, 3)), labels.view(4, 6))
    torch.testing.assert_close(made, torch.nn.CrossEntropyLoss(weight=weights, label_smoothing=0.1)(logits, labels))
    nothing = loss(SimpleNamespace(logits=logits.view(4, 6, 3)), torch.full((4, 6), -100))
    assert nothing.item() == 0


def regularised(small_recipe, settings):
    return load_recipe(small_recipe, [f"regularisation={settings}"])


def test_balanced_weights_are_inversely_as_the_shares_of_the_train_split(small_recipe):
    recipe = regularised(small_recipe, "{class_weights: balanced}")
    split = SimpleNamespace(labels=torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 1, 2]).numpy())
    # 10 / (3 · 6), 10 / (3 · 3), 10 / (3 · 1): their mean over the ten labels is 1.
    weights = training_loss(recipe, classes=CLASSES, train=split).weights
    torch.testing.assert_close(weights, torch.tensor([10 / 18, 10 / 9, 10 / 3]))
    assert weights[torch.from_numpy(split.labels)].mean().item() == pytest.approx(1)


def test_balanced_weights_need_every_class(small_recipe):
    recipe = regularised(small_recipe, "{class_weights: balanced}")
    with pytest.raises(DataError, match="a label of every class to train on, and there is none of c"):
        training_loss(recipe, classes=CLASSES, train=SimpleNamespace(labels=torch.tensor([0, 1]).numpy()))


def test_classes_that_are_not_named_weigh_one(small_recipe):
    recipe = regularised(small_recipe, "{class_weights: {b: 5}}")
    assert training_loss(recipe, classes=CLASSES, train=None).weights.tolist() == [1, 5, 1]


def test_without_such_settings_the_loss_is_the_tasks_own(small_recipe):
    for settings in ("null", "{dropout: 0.0}"):
        recipe = regularised(small_recipe, settings)
        assert training_loss(recipe, classes=CLASSES, train=None) == recipe.task.training_loss


def test_an_unknown_class_is_refused_before_the_model_is_loaded(train, monkeypatch):
    monkeypatch.setattr(TextClassification, "load_model", None)
    with pytest.raises(SettingError, match=r"regularisation.class_weights.positve: is not one .* mean positive\?"):
        train("regularisation.class_weights={positve: 2}")


@pytest.mark.slow
@pytest.mark.parametrize(("settings", "weights"), SETTINGS.items())
def test_accumulation_changes_no_loss_and_evaluations_are_plain(train, steady_model, monkeypatch, settings, weights):
    seen, original = [], ScheduledTrainer.get_batch_samples

    def spy(self, *args):
        batches, count = original(self, *args)
        seen.append((torch.cat([batch["labels"] for batch in batches]), float(count)))
        return batches, count

    monkeypatch.setattr(ScheduledTrainer, "get_batch_samples", spy)
    overrides = (f"model.path={steady_model}", f"regularisation={settings}", *WHOLE)
    record, whole = train(*overrides)
    once = list(seen)
    _, parts = train(*overrides, "name=parts", "training.micro_batch_size=6")
    losses, in_parts = ([row["loss"] for row in read_history(run) if "rates" in row] for run in (whole, parts))
    assert in_parts == pytest.approx(losses, rel=1e-4)
    for (labels, count), (same, of_parts) in zip(once, seen[len(once) :], strict=True):
        assert sorted(labels.tolist()) == sorted(same.tolist())
        assert of_parts == pytest.approx(count, rel=1e-6)
        assert count == pytest.approx(torch.tensor(weights)[labels].sum().item(), rel=1e-6)
    # A loss that nothing is subtracted from in the end: that of the predictions, without smoothing or weights.
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(whole / "predictions" / "validation.parquet").to_pydict()
    shares = [table[f"probability_{label}"][row] for row, label in enumerate(table["label"])]
    expected = -torch.tensor(shares, dtype=torch.float64).log().mean().item()
    assert record.results.splits["validation"].loss == pytest.approx(expected, rel=1e-6)
