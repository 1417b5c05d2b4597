"""The scheduler under any optimizer, with tensor rates, a compiled step, and sharded parameters."""

import gc
import json
import shutil
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


def train(model, optimizer, scheduler, step=None, *, share=slice(None)):
    """Trains for TOTAL updates on `share` of each batch of 8; returns the rates of all groups at each."""
    seen = []
    for update in range(TOTAL):
        seen.append([float(group["lr"]) for group in optimizer.param_groups])
        inputs = torch.randn(8, 3, generator=torch.Generator().manual_seed(update))[share]
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


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_rates_that_are_tensors_stay_the_same_tensors_and_train_as_numbers_do(name):
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(torch.nn.Linear(3, 2))
    peaks = [torch.tensor(peak, dtype=torch.float64) for peak in (0.1, 0.01)]
    tensors, numbers = build(name, groups_of(models[0], *peaks)), build(name, groups_of(models[1], 0.1, 0.01))
    for model, optimizer in zip(models, (tensors, numbers), strict=True):
        rates = train(model, optimizer, make_scheduler(optimizer, SCHEDULE, total_steps=TOTAL))
        assert rates == [pytest.approx(row) for row in expected(0.1, 0.01)]
    assert all(group["lr"] is peak for group, peak in zip(tensors.param_groups, peaks, strict=True))
    for mine, theirs in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.filterwarnings("default")  # of torch about itself
@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_a_compiled_step_is_compiled_once_for_all_rates_and_uses_each(backend):
    from torch._dynamo.testing import CompileCounterWithBackend

    if backend == "inductor" and not any(map(shutil.which, ("c++", "g++", "clang++"))):
        pytest.skip("inductor needs a C++ compiler")
    torch._dynamo.reset()
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(torch.nn.Linear(3, 2))
    compiler = CompileCounterWithBackend(backend)
    for model in models:
        optimizer = torch.optim.Adam(model.parameters(), lr=torch.tensor(0.1), foreach=False)
        scheduler = make_scheduler(optimizer, SCHEDULE, total_steps=TOTAL)
        step = torch.compile(optimizer.step, backend=compiler) if model is models[0] else None
        rates = train(model, optimizer, scheduler, step)
        assert rates == [pytest.approx(row, rel=1e-6) for row in expected(0.1)]
    assert compiler.frame_count == 1  # rates that are numbers would take a second
    for compiled, plain in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(compiled, plain)


def _layers():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Linear(8, 2))


def _sharded(rank, world, port, folder):
    import torch.distributed as dist
    from torch.distributed.fsdp import fully_shard

    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    model = _layers()
    mesh = dist.device_mesh.init_device_mesh("cpu", (world,))
    for layer in model:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    scheduler = make_scheduler(optimizer, SCHEDULE, total_steps=TOTAL)
    rates = train(model, optimizer, scheduler, share=slice(rank, None, world))
    weights = [parameter.full_tensor().tolist() for parameter in model.parameters()]
    (folder / f"{rank}.json").write_text(json.dumps([rates, weights]))
    # A gloo thread that holds the last reference to a tensor at the end can abort the process.
    del model, optimizer, scheduler
    gc.collect()
    dist.barrier()
    dist.destroy_process_group()


def test_sharded_parameters_follow_the_rates_of_one_process_and_end_where_its_do(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_sharded, args=(2, port, tmp_path), nprocs=2)
    model, start = _layers(), _layers()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    rates_of_one = train(model, optimizer, make_scheduler(optimizer, SCHEDULE, total_steps=TOTAL))
    assert rates_of_one == [pytest.approx(row) for row in expected(0.1)]
    for rank in range(2):
        rates, weights = json.loads((tmp_path / f"{rank}.json").read_text())
        assert rates == rates_of_one
        for sharded, one, old in zip(weights, model.parameters(), start.parameters(), strict=True):
            torch.testing.assert_close(torch.tensor(sharded), one.detach(), rtol=1e-3, atol=1e-4)
            assert not torch.equal(torch.tensor(sharded), old.detach())
