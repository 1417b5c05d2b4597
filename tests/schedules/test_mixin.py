"""Schedules under transformers' Trainer, on a model of three parameters; four updates make an epoch."""

import pytest
import torch
from transformers import Trainer

from finetune.errors import ResumeError, SettingError
from finetune.schedules import Constant, Cosine, Linear, Plateau, ScheduleMixin


def first_group(trainer):
    return [rates[0] for rates in trainer.used.rates]


def test_every_update_is_made_at_the_schedules_rate(make_trainer):
    trainer = make_trainer(schedule=Linear(warmup=2))
    trainer.train()
    # Up in 2 of 8 updates, down in 6, from a peak of 0.1.
    assert first_group(trainer) == pytest.approx([0.0, 0.05, 0.1, 0.5 / 6, 0.4 / 6, 0.3 / 6, 0.2 / 6, 0.1 / 6])


def test_all_groups_follow_the_schedule(make_trainer):
    trainer = make_trainer(schedule="linear")
    trainer.train()
    assert trainer.used.rates == [pytest.approx([0.1 * (1 - t / 8)] * 2) for t in range(8)]


def test_a_schedule_may_be_given_by_name(make_trainer):
    trainer = make_trainer(schedule="cosine")
    trainer.train()
    assert first_group(trainer)[4] == pytest.approx(0.05)


def test_epochs_are_counted_in_the_trainers_updates(make_trainer):
    trainer = make_trainer(schedule=Constant(warmup="0.5ep"))
    trainer.train()
    assert first_group(trainer)[:3] == pytest.approx([0.0, 0.05, 0.1])


def test_epochs_are_counted_after_accumulation(make_trainer):
    # 4 batches accumulated by 3 make 2 updates an epoch.
    trainer = make_trainer(
        schedule=Constant(warmup="1ep"), arguments={"gradient_accumulation_steps": 3, "num_train_epochs": 2}
    )
    trainer.train()
    assert first_group(trainer) == pytest.approx([0.0, 0.05, 0.1, 0.1])


def test_epochs_are_refused_for_data_of_unknown_length(make_trainer):
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter([{"x": [1.0, 1.0], "labels": 1.0}] * 8)

    trainer = make_trainer(schedule=Constant(warmup="0.5ep"), data=Stream(), arguments={"max_steps": 4})
    with pytest.raises(SettingError, match=r"^warmup:.*updates_per_epoch"):
        trainer.train()


def test_a_second_train_starts_afresh(make_trainer):
    trainer = make_trainer(schedule="linear", arguments={"max_steps": 4})
    trainer.train()
    trainer.train()
    assert first_group(trainer) == pytest.approx([0.1, 0.075, 0.05, 0.025] * 2)


def test_the_optimizer_argument_is_the_one_that_is_driven(make_trainer, make_optimizer):
    trainer = make_trainer(schedule="linear")
    trainer.create_optimizer()
    given = make_optimizer(1.0)
    scheduler = trainer.create_scheduler(4, optimizer=given)
    given.step()
    scheduler.step()
    assert given.param_groups[0]["lr"] == 0.75
    assert trainer.optimizer.param_groups[0]["lr"] == 0.1
    assert trainer.lr_scheduler is scheduler


def test_the_scheduler_is_made_once(make_trainer):
    trainer = make_trainer(schedule="linear")
    trainer.create_optimizer()
    assert trainer.create_scheduler(4) is trainer.create_scheduler(4)


def test_a_users_own_trainer_and_optimizer_follow_the_schedule(make_trainer):
    class Own(Trainer):
        def __init__(self, *args, scale, **kwargs):
            super().__init__(*args, **kwargs)
            self.scale = scale

        def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
            loss = super().compute_loss(model, inputs, **kwargs)
            return self.scale * loss

        def create_optimizer(self, model=None):
            self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.4)
            return self.optimizer

    class OwnScheduled(ScheduleMixin, Own):
        pass

    trainer = make_trainer(OwnScheduled, schedule="linear", scale=2.0, arguments={"max_steps": 4})
    trainer.train()
    assert first_group(trainer) == pytest.approx([0.4, 0.3, 0.2, 0.1])


def test_an_optimizer_may_be_passed(make_trainer):
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.4)
    trainer = make_trainer(schedule="linear", optimizers=(optimizer, None))
    assert trainer.create_scheduler(4).get_last_lr() == [0.4]


SAVE = {"save_strategy": "steps", "save_steps": 5, "max_steps": 5}


def test_a_resumed_run_under_another_schedule_is_refused(make_trainer, tmp_path):
    make_trainer(schedule="linear", arguments=SAVE).train()
    with pytest.raises(ResumeError, match="total_steps: 5, now 10"):
        make_trainer(schedule="linear", arguments={"max_steps": 10}).train(str(tmp_path / "checkpoint-5"))


def test_a_run_may_be_extended(make_trainer, tmp_path):
    make_trainer(schedule="linear", arguments=SAVE).train()
    resumed = make_trainer(schedule=Cosine(), arguments={"max_steps": 10, "learning_rate": 1.0}, on_change="extend")
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-5"))
    assert first_group(resumed)[0] == pytest.approx(0.5)
    assert len(first_group(resumed)) == 5


def test_samples_are_counted_in_the_trainers_batches(make_trainer):
    trainer = make_trainer(schedule=Linear(warmup="8 samples"))
    trainer.train()
    assert first_group(trainer)[:5] == pytest.approx([0.0, 0.025, 0.05, 0.075, 0.1])


def test_a_plateau_is_told_of_evaluations(make_trainer):
    trainer = make_trainer(
        schedule=Plateau(gamma=0.5, patience=0, threshold=10.0),
        arguments={"eval_strategy": "epoch", "num_train_epochs": 3},
        eval_dataset=[{"x": [0.0, 1.0], "labels": 0.5}] * 2,
    )
    trainer.train()
    assert first_group(trainer) == pytest.approx([0.1] * 8 + [0.05] * 4)


def test_a_scheduler_passed_beside_the_schedule_is_refused(make_trainer, make_optimizer):
    optimizer = make_optimizer(1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1)
    with pytest.raises(SettingError, match=r"^optimizers:"):
        make_trainer(schedule="linear", optimizers=(optimizer, scheduler))


@pytest.mark.parametrize(
    "arguments",
    [
        {"lr_scheduler_type": "cosine"},
        {"lr_scheduler_kwargs": {"num_cycles": 2}},
        {"warmup_steps": 3},
        {"warmup_steps": 0.1},
    ],
)
def test_training_arguments_that_would_be_ignored_are_refused(make_trainer, arguments):
    (name,) = arguments
    with pytest.raises(SettingError, match=f"^{name}: .* in TrainingArguments would have no effect"):
        make_trainer(schedule="linear", arguments=arguments)


def test_training_arguments_changed_before_training_are_refused(make_trainer):
    trainer = make_trainer(schedule="linear")
    trainer.args.warmup_steps = 3
    with pytest.raises(SettingError, match=r"^warmup_steps: 3 .*set it to 0"):
        trainer.train()


def test_an_unknown_schedule_is_refused_at_once(make_trainer):
    with pytest.raises(SettingError, match="did you mean cosine"):
        make_trainer(schedule="cosin")


def test_the_bases_in_the_wrong_order_are_refused(make_trainer):
    class Wrong(Trainer, ScheduleMixin):
        pass

    with pytest.raises(TypeError, match="schedule"):
        make_trainer(Wrong, schedule="linear")
