"""The scheduler under any optimizer, with tensor rates, a compiled step, and sharded parameters."""

import json
import socket

import pytest
import torch
import torch.multiprocessing

from finetune.schedules import make_schedule, make_scheduler

OPTIMIZERS = ["SGD", "Adam", "RMSprop", "AdamW", "Adagrad", "Adafactor", "NAdam", "RAdam"]
SCHEDULE = make_schedule("cosine", warmup=2, floor=0.1)
TOTAL = 6


def groups_of(model, *peaks):
    return [{"params": [parameter], "lr": peak} for parameter, peak in zip(model.parameters(), peaks, strict=True)]


def build(name, groups):
    if hasattr(torch.optim, name):
        return getattr(torch.optim, name)(groups)
    library = pytest.importorskip("pytorch_optimizer", reason="pytorch-optimizer is not installed: scripts/venv dev")
    return getattr(library, name)(groups)


def expected(*peaks):
    factor = SCHEDULE.resolve(total_steps=TOTAL)
    return [[peak * factor(t) for peak in peaks] for t in range(TOTAL)]


def train(model, optimizer, scheduler, step=None):
    """Trains for TOTAL updates; returns the rates of all groups at each."""
    seen = []
    for update in range(TOTAL):
        seen.append([float(group["lr"]) for group in optimizer.param_groups])
        inputs = torch.randn(8, 3, generator=torch.Generator().manual_seed(update))
        model(inputs).square().mean().backward()
        (step or optimizer.step)()
        optimizer.zero_grad()
        scheduler.step()
    return seen


@pytest.mark.parametrize("name", [*OPTIMIZERS, "Lion"])
def test_under_any_optimizer_each_group_follows_its_peak_and_the_update_is_the_optimizers_own(name):
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(torch.nn.Linear(3, 2))
    ours, by_hand = (build(name, groups_of(model, 0.1, 0.01)) for model in models)
    rates = train(models[0], ours, make_scheduler(ours, SCHEDULE, total_steps=TOTAL))
    assert rates == [pytest.approx(row) for row in expected(0.1, 0.01)]

    class ByHand:
        made = 0

        def step(self):
            self.made += 1
            set_rates(self.made)

    def set_rates(update):
        row = expected(0.1, 0.01)[min(update, TOTAL - 1)]
        for group, rate in zip(by_hand.param_groups, row, strict=True):
            group["lr"] = rate

    set_rates(0)
    train(models[1], by_hand, ByHand())
    for mine, theirs in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_a_rate_that_is_a_tensor_stays_the_same_tensor():
    model = torch.nn.Linear(3, 2)
    rate = torch.tensor(0.1, dtype=torch.float64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, foreach=False)
    scheduler = make_scheduler(optimizer, SCHEDULE, total_steps=TOTAL)
    group = optimizer.param_groups[0]
    before = group["lr"]
    assert train(model, optimizer, scheduler) == [pytest.approx(row) for row in expected(0.1)]
    assert group["lr"] is before


@pytest.mark.filterwarnings("default")  # of torch about itself
def test_a_compiled_step_is_compiled_once_for_all_rates():
    from torch._dynamo.testing import CompileCounterWithBackend

    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=torch.tensor(0.1), foreach=False)
    scheduler = make_scheduler(optimizer, SCHEDULE, total_steps=TOTAL)
    compiler = CompileCounterWithBackend("eager")
    step = torch.compile(optimizer.step, backend=compiler)
    rates = train(model, optimizer, scheduler, step)
    assert rates == [pytest.approx(row, rel=1e-6) for row in expected(0.1)]
    # The first step makes the optimizer's state, so there may be one compilation for it and one for all others.
    assert 1 <= compiler.frame_count <= 2


def _sharded(rank, world, port, folder):
    import torch.distributed as dist
    from torch.distributed.fsdp import fully_shard

    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Linear(8, 2))
    mesh = dist.device_mesh.init_device_mesh("cpu", (world,))
    for layer in model:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    before = [parameter.full_tensor().detach().clone() for parameter in model.parameters()]
    rates = train(model, optimizer, make_scheduler(optimizer, SCHEDULE, total_steps=TOTAL))
    moved = [
        not torch.equal(parameter.full_tensor(), old) for parameter, old in zip(model.parameters(), before, strict=True)
    ]
    (folder / f"{rank}.json").write_text(json.dumps([rates, all(moved)]))
    dist.destroy_process_group()


def test_sharded_parameters_follow_the_same_rates_on_every_process(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_sharded, args=(2, port, tmp_path), nprocs=2)
    for rank in range(2):
        rates, moved = json.loads((tmp_path / f"{rank}.json").read_text())
        assert rates == [pytest.approx(row) for row in expected(0.1)]
        assert moved
