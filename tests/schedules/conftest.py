"""A one-parameter optimizer, and a Trainer that makes four updates an epoch."""

import pytest
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

from finetune.schedules import ScheduleMixin


@pytest.fixture(scope="session")
def make_optimizer():
    """Returns SGD with one parameter group for each of `peaks`."""

    def make(*peaks):
        return torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": peak} for peak in peaks], lr=9.0)

    return make


class Regression(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def forward(self, x, labels):
        loss = torch.nn.functional.mse_loss(self.layer(x).squeeze(-1), labels)
        return {"loss": loss}


class RatesUsed(TrainerCallback):
    """Keeps the rates of all groups at each update, as the optimizer sees them."""

    def __init__(self):
        self.rates = []

    def on_pre_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
        self.rates.append([group["lr"] for group in optimizer.param_groups])


class ScheduledTrainer(ScheduleMixin, Trainer):
    pass


@pytest.fixture
def make_trainer(tmp_path):
    """Returns a Trainer over 8 examples in batches of 2, with the callback RatesUsed as its attribute `used`."""

    def make(trainer_class=ScheduledTrainer, *, schedule, arguments=None, data=None, **settings):
        settings.setdefault("model", Regression())
        defaults = {
            "output_dir": str(tmp_path),
            "per_device_train_batch_size": 2,
            "learning_rate": 0.1,
            "num_train_epochs": 2,
            "use_cpu": True,
            "dataloader_pin_memory": False,
            "save_strategy": "no",
            "logging_strategy": "no",
            "disable_tqdm": True,
        }
        used = RatesUsed()
        trainer = trainer_class(
            args=TrainingArguments(**defaults | (arguments or {})),
            train_dataset=[{"x": [i / 8, 1.0], "labels": i / 4} for i in range(8)] if data is None else data,
            callbacks=[used],
            schedule=schedule,
            **settings,
        )
        trainer.used = used
        return trainer

    return make
