"""A loop with Accelerate, which applies the same rates on one process and on many.

The scheduler steps once after each update, and never goes through `prepare()`: a prepared scheduler steps once for each
process (unless `split_batches` is set). A batch of 16 is divided between the processes, so there are as many updates on
two as on one; with the seedable sampler they are of the same examples, too, and so the losses are the same.

Run:     accelerate launch --config_file accelerate_configs/cpu.yaml scripts/examples/accelerate_loop.py
         ACCELERATE_USE_CPU=true accelerate launch --config_file accelerate_configs/cpu_2_processes.yaml \
             scripts/examples/accelerate_loop.py
"""

import gc

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, set_seed
from torch.utils.data import DataLoader, TensorDataset

from finetune.schedules import make_schedule, make_scheduler

EPOCHS = 4
ACCUMULATE = 2
BATCH = 16


def main() -> list[float]:
    """Trains, prints every update, and returns each update's rate."""
    accelerator = Accelerator(
        gradient_accumulation_steps=ACCUMULATE, dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True)
    )
    set_seed(0)
    inputs = torch.randn(80, 4)
    share = BATCH // accelerator.num_processes
    data = DataLoader(TensorDataset(inputs, inputs.sum(dim=1, keepdim=True)), batch_size=share, shuffle=True)
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model, optimizer, data = accelerator.prepare(model, optimizer, data)  # but not the scheduler

    updates_per_epoch = -(-len(data) // ACCUMULATE)  # 5 batches make 3 updates, the last of one batch
    total = EPOCHS * updates_per_epoch
    scheduler = make_scheduler(optimizer, make_schedule("cosine", warmup="25%"), total_steps=total)

    rates = []
    for _ in range(EPOCHS):
        for x, y in data:
            with accelerator.accumulate(model):
                loss = torch.nn.functional.mse_loss(model(x), y)
                accelerator.backward(loss)
                rate = optimizer.param_groups[0]["lr"]
                optimizer.step()
                optimizer.zero_grad()
            # In fp16, an update whose gradients overflow is left out, and the schedule waits.
            if accelerator.sync_gradients and not accelerator.optimizer_step_was_skipped:
                scheduler.step()
                mean = accelerator.reduce(loss.detach(), reduction="mean").item()
                accelerator.print(f"update {len(rates):2}  rate {rate:.6f}  loss {mean:.4f}")
                rates.append(rate)
    accelerator.print(
        f"{len(rates)} updates on {accelerator.num_processes} process(es): "
        f"rate {rates[0]:.6f} at first, {max(rates):.6f} at its peak, {rates[-1]:.6f} at last"
    )
    # Two processes on a CPU end in good order when nothing outlives the process group.
    del model, optimizer, scheduler, data, loss
    gc.collect()
    accelerator.end_training()
    return rates


if __name__ == "__main__":
    main()
