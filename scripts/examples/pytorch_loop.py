"""A plain PyTorch loop: SGD with momentum, cosine decay over 100 epochs, one step of the schedule after each epoch.

The classic recipe for training a classifier. Since the scheduler steps once an epoch, `total_steps` counts epochs. To
change the rate after every update instead, move `scheduler.step()` into the inner loop and count updates.

Run:     python scripts/examples/pytorch_loop.py
"""

import torch

from finetune.schedules import make_scheduler

EPOCHS = 100


def make_data(examples: int = 256) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns points of the plane, and whether each lies in the unit circle."""
    points = torch.randn(examples, 2)
    return points, (points.norm(dim=1) < 1).long()


def main() -> list[float]:
    """Trains, prints every tenth epoch, and returns each epoch's rate."""
    torch.manual_seed(0)
    points, classes = make_data()
    model = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = make_scheduler(optimizer, "cosine", total_steps=EPOCHS)  # the first of the two lines

    rates = []
    for epoch in range(EPOCHS):
        rates.append(optimizer.param_groups[0]["lr"])
        for batch in torch.randperm(len(points)).split(64):
            loss = torch.nn.functional.cross_entropy(model(points[batch]), classes[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()  # the second
        if epoch % 10 == 0 or epoch == EPOCHS - 1:
            print(f"epoch {epoch:3}  rate {rates[-1]:.6f}  loss {loss.item():.4f}")
    print(f"{EPOCHS} epochs: rate {rates[0]:.6f} at first, {max(rates):.6f} at its peak, {rates[-1]:.6f} at last")
    return rates


if __name__ == "__main__":
    main()
