"""Lightning: a scheduler made in `configure_optimizers`, which Lightning steps after each update.

`"interval": "step"` is needed: by default Lightning steps a scheduler once an epoch.

Run:     python scripts/examples/lightning_loop.py
"""

from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader, TensorDataset

from finetune.schedules import make_schedule, make_scheduler


class Regression(lightning.LightningModule):
    """A linear model that remembers the rate and the loss of each update."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)
        self.rates: list[float] = []
        self.losses: list[float] = []

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        inputs, targets = batch
        loss = torch.nn.functional.mse_loss(self.layer(inputs), targets)
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.1)
        total = int(self.trainer.estimated_stepping_batches)
        scheduler = make_scheduler(optimizer, make_schedule("cosine", warmup="10%"), total_steps=total)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])


def main() -> list[float]:
    """Trains, prints the rates and losses, and returns each update's rate."""
    torch.manual_seed(0)
    inputs = torch.randn(80, 4)
    data = DataLoader(TensorDataset(inputs, inputs.sum(dim=1, keepdim=True)), batch_size=16)
    model = Regression()
    trainer = lightning.Trainer(
        max_epochs=4,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, data)
    rates, losses = model.rates, model.losses
    for update in range(0, len(rates), 2):
        print(f"update {update:2}  rate {rates[update]:.6f}  loss {losses[update]:.4f}")
    print(f"{len(rates)} updates: rate {rates[0]:.6f} at first, {max(rates):.6f} at its peak, {rates[-1]:.6f} at last")
    return rates


if __name__ == "__main__":
    main()
