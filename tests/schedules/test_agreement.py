"""Which libraries' schedules ours equal at every update, over drawn settings.

`AGREEMENT` is the table of the README: a test draws settings for each of its cells, another compares it with the text.
`test_other_libraries.py` has where theirs are at fault.
"""

from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.schedules import SCHEDULES, Plateau, make_schedule, make_scheduler
from tests.schedules.other_libraries import optax_rates, timm_rates, torch_rates

README = Path(__file__).parents[2] / "README.md"
FRACTIONS = st.floats(0.0, 1.0, allow_subnormal=False)
RATIOS = st.floats(0.05, 1.0)
FALLS = st.floats(0.05, 0.99)  # at 1 optax takes its end_value for a ceiling
POWERS = st.floats(0.25, 4.0)

AGREEMENT = {}
"""(schedule, library) ▶ (the name of theirs, a strategy of (ours, theirs): the factors of all updates of a run)."""


def agreement(schedule, library, theirs):
    """Enters the function, which draws settings and returns both sides, as a cell of the table."""

    def enter(function):
        AGREEMENT[schedule, library] = (theirs, st.composite(function)())
        return function

    return enter


def factors(name, total_steps, **own):
    factor = make_schedule(name, **own).resolve(total_steps=total_steps)
    return [factor(t) for t in range(total_steps)]


def run(draw, least=1):
    """The lengths of a run and of its warmup, in updates."""
    total_steps = draw(st.integers(least, 60))
    return total_steps, draw(st.integers(0, total_steps - least))


@agreement("constant", "transformers", "constant_with_warmup")
def _(draw):
    total, warmup = run(draw)
    make = transformers.get_constant_schedule_with_warmup
    return factors("constant", total, warmup=warmup), torch_rates(lambda o: make(o, warmup), total)


@agreement("constant", "optax", "warmup_constant_schedule")
def _(draw):
    total, warmup = draw(st.integers(1, 60)), draw(st.integers(1, 39))
    total += warmup
    return factors("constant", total, warmup=warmup), optax_rates("warmup_constant_schedule", total, 0.0, 1.0, warmup)


@agreement("linear", "transformers", "linear")
def _(draw):
    total, warmup = run(draw)
    make = transformers.get_linear_schedule_with_warmup
    return factors("linear", total, warmup=warmup), torch_rates(lambda o: make(o, warmup, total), total)


@agreement("linear", "torch", "LinearLR")
def _(draw):
    total, floor = draw(st.integers(1, 60)), draw(FRACTIONS)
    make = torch.optim.lr_scheduler.LinearLR
    theirs = torch_rates(lambda o: make(o, start_factor=1.0, end_factor=floor, total_iters=total), total)
    return factors("linear", total, floor=floor), theirs


@agreement("linear", "optax", "linear_schedule")
def _(draw):
    total, floor = draw(st.integers(1, 60)), draw(FRACTIONS)
    return factors("linear", total, floor=floor), optax_rates("linear_schedule", total, 1.0, floor, total)


@agreement("polynomial", "transformers", "polynomial")
def _(draw):
    total, warmup = run(draw)
    power, floor = draw(POWERS), draw(st.floats(0.0, 0.99))
    make = transformers.get_polynomial_decay_schedule_with_warmup
    theirs = torch_rates(lambda o: make(o, warmup, total, lr_end=floor, power=power), total)
    return factors("polynomial", total, warmup=warmup, power=power, floor=floor), theirs


@agreement("polynomial", "torch", "PolynomialLR")
def _(draw):
    total, power = draw(st.integers(1, 60)), draw(POWERS)
    make = torch.optim.lr_scheduler.PolynomialLR
    theirs = torch_rates(lambda o: make(o, total_iters=total, power=power), total)
    return factors("polynomial", total, power=power), theirs


@agreement("polynomial", "timm", "PolyLRScheduler")
def _(draw):
    total, warmup = run(draw)
    own = {"power": draw(POWERS)}
    floor = draw(FRACTIONS)
    theirs = timm_rates(
        "PolyLRScheduler", total, t_initial=total - warmup, warmup_t=warmup, warmup_prefix=True, lr_min=floor, **own
    )
    return factors("polynomial", total, warmup=warmup, floor=floor, **own), theirs


@agreement("polynomial", "optax", "polynomial_schedule")
def _(draw):
    total, power, floor = draw(st.integers(1, 60)), draw(POWERS), draw(FRACTIONS)
    theirs = optax_rates("polynomial_schedule", total, 1.0, floor, power, total)
    return factors("polynomial", total, power=power, floor=floor), theirs


@agreement("cosine", "transformers", "cosine, cosine_with_min_lr")
def _(draw):
    total, warmup = run(draw)
    if draw(st.booleans()):
        waves = draw(st.floats(0.1, 4.0))
        make = transformers.get_cosine_schedule_with_warmup
        theirs = torch_rates(lambda o: make(o, warmup, total, num_cycles=waves), total)
        return factors("cosine", total, warmup=warmup, waves=waves), theirs
    floor = draw(FRACTIONS)
    make = transformers.get_cosine_with_min_lr_schedule_with_warmup
    theirs = torch_rates(lambda o: make(o, warmup, total, min_lr_rate=floor), total)
    return factors("cosine", total, warmup=warmup, floor=floor), theirs


@agreement("cosine", "torch", "CosineAnnealingLR")
def _(draw):
    total, floor = draw(st.integers(1, 60)), draw(FRACTIONS)
    make = torch.optim.lr_scheduler.CosineAnnealingLR
    return factors("cosine", total, floor=floor), torch_rates(lambda o: make(o, T_max=total, eta_min=floor), total)


@agreement("cosine", "timm", "CosineLRScheduler")
def _(draw):
    total, warmup = run(draw)
    k, floor = draw(POWERS), draw(FRACTIONS)
    length = {"t_initial": total - warmup, "warmup_t": warmup, "warmup_prefix": True}
    theirs = timm_rates("CosineLRScheduler", total, lr_min=floor, k_decay=k, **length)
    return factors("cosine", total, warmup=warmup, floor=floor, k_decay=k), theirs


@agreement("cosine", "optax", "warmup_cosine_decay_schedule")
def _(draw):
    total, warmup = run(draw)
    start, floor = draw(FRACTIONS), draw(FRACTIONS)
    theirs = optax_rates("warmup_cosine_decay_schedule", total, start, 1.0, warmup, total, floor)
    return factors("cosine", total, warmup=warmup, warmup_start=start, floor=floor), theirs


@agreement("cosine_restarts", "transformers", "cosine_with_restarts")
def _(draw):
    total, warmup = run(draw)
    cycles = draw(st.integers(1, max(1, total - warmup)))
    make = transformers.get_cosine_with_hard_restarts_schedule_with_warmup
    ours = factors("cosine_restarts", total, warmup=warmup, cycles=cycles)
    theirs = torch_rates(lambda o: make(o, warmup, total, num_cycles=cycles), total)
    # Where a cycle begins exactly, theirs may still be at the end of the one before: see FAULTS in test_other_libraries.py.
    smooth = [t for t in range(total) if t < warmup or (t - warmup) * cycles % (total - warmup)]
    return [ours[t] for t in smooth], [theirs[t] for t in smooth]


@agreement("cosine_restarts", "torch", "CosineAnnealingWarmRestarts")
def _(draw):
    total, first, growth, floor = (
        draw(st.integers(1, 60)),
        draw(st.integers(1, 20)),
        draw(st.integers(1, 2)),
        draw(RATIOS),
    )
    make = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts
    theirs = torch_rates(lambda o: make(o, T_0=first, T_mult=growth, eta_min=floor), total)
    return factors("cosine_restarts", total, first=first, growth=float(growth), floor=floor), theirs


@agreement("cosine_restarts", "timm", "CosineLRScheduler")
def _(draw):
    total, first, growth = (
        draw(st.integers(1, 60)),
        draw(st.integers(2, 20)),
        draw(st.sampled_from([1.0, 1.5, 2.0, 2.7])),
    )
    own = {"decay": draw(RATIOS)}
    floor = 0.25 * own["decay"] ** 30  # below every peak: timm goes under its lr_min after that
    theirs = timm_rates(
        "CosineLRScheduler",
        total,
        t_initial=first,
        cycle_mul=growth,
        cycle_decay=own["decay"],
        cycle_limit=99,
        lr_min=floor,
    )
    ours = factors("cosine_restarts", total, first=first, growth=growth, floor=floor, **own)
    starts = {first * (growth**i - 1) / (growth - 1) for i in range(20)} if growth > 1 else set()
    smooth = [t for t in range(total) if t not in starts]
    return [ours[t] for t in smooth], [theirs[t] for t in smooth]


@agreement("cosine_restarts", "optax", "sgdr_schedule")
def _(draw):
    first, cycles, decay, floor = draw(st.integers(3, 12)), draw(st.integers(1, 4)), draw(RATIOS), 1e-9
    climb = draw(st.integers(0, 2))
    parts = [
        {"init_value": floor, "peak_value": decay**i, "warmup_steps": climb, "decay_steps": first, "end_value": floor}
        for i in range(cycles)
    ]
    own = {"first": first, "decay": decay, "cycle_warmup": climb, "floor": floor}
    return factors("cosine_restarts", first * cycles, **own), optax_rates("sgdr_schedule", first * cycles, parts)


@agreement("step", "torch", "StepLR")
def _(draw):
    total, gamma, every = draw(st.integers(1, 60)), draw(RATIOS), draw(st.integers(1, 70))
    make = torch.optim.lr_scheduler.StepLR
    return factors("step", total, gamma=gamma, every=every), torch_rates(
        lambda o: make(o, step_size=every, gamma=gamma), total
    )


@agreement("step", "timm", "StepLRScheduler")
def _(draw):
    total, warmup = run(draw)
    gamma, every = draw(RATIOS), draw(st.integers(1, 70))
    theirs = timm_rates("StepLRScheduler", total, decay_t=every, decay_rate=gamma, warmup_t=warmup, warmup_prefix=True)
    return factors("step", total, warmup=warmup, gamma=gamma, every=every), theirs


@agreement("step", "optax", "exponential_decay(staircase=True)")
def _(draw):
    total, gamma, every, floor = draw(st.integers(1, 60)), draw(FALLS), draw(st.integers(1, 70)), draw(FRACTIONS)
    theirs = optax_rates("exponential_decay", total, 1.0, every, gamma, staircase=True, end_value=floor)
    ours = factors("step", total, gamma=gamma, every=every, floor=floor)
    # At a fall theirs may be late: see FAULTS in test_other_libraries.py.
    between = [t for t in range(total) if t % every or t == 0]
    return [ours[t] for t in between], [theirs[t] for t in between]


def milestones(draw):
    return sorted(draw(st.sets(st.integers(1, 70), min_size=1, max_size=5)))


@agreement("multistep", "torch", "MultiStepLR")
def _(draw):
    total, gamma, marks = draw(st.integers(1, 60)), draw(RATIOS), milestones(draw)
    make = torch.optim.lr_scheduler.MultiStepLR
    theirs = torch_rates(lambda o: make(o, milestones=marks, gamma=gamma), total)
    return factors("multistep", total, gamma=gamma, milestones=marks), theirs


@agreement("multistep", "timm", "MultiStepLRScheduler, whose milestones are one later")
def _(draw):
    total, gamma, marks = draw(st.integers(1, 60)), draw(RATIOS), milestones(draw)
    theirs = timm_rates("MultiStepLRScheduler", total, decay_t=[mark + 1 for mark in marks], decay_rate=gamma)
    return factors("multistep", total, gamma=gamma, milestones=marks), theirs


@agreement("multistep", "optax", "piecewise_constant_schedule")
def _(draw):
    total, gamma, marks = draw(st.integers(1, 60)), draw(RATIOS), milestones(draw)
    theirs = optax_rates("piecewise_constant_schedule", total, 1.0, dict.fromkeys(marks, gamma))
    return factors("multistep", total, gamma=gamma, milestones=marks), theirs


@agreement("exponential", "torch", "ExponentialLR")
def _(draw):
    total, make = draw(st.integers(1, 60)), torch.optim.lr_scheduler.ExponentialLR
    if draw(st.booleans()):
        gamma = draw(RATIOS)
        return factors("exponential", total, gamma=gamma), torch_rates(lambda o: make(o, gamma=gamma), total)
    final = draw(RATIOS)
    theirs = torch_rates(lambda o: make(o, gamma=final ** (1 / total)), total)
    return factors("exponential", total, final=final), theirs


@agreement("exponential", "optax", "exponential_decay")
def _(draw):
    total, gamma, every, floor = draw(st.integers(1, 60)), draw(FALLS), draw(st.integers(1, 70)), draw(FRACTIONS)
    theirs = optax_rates("exponential_decay", total, 1.0, every, gamma, end_value=floor)
    return factors("exponential", total, gamma=gamma, every=every, floor=floor), theirs


@agreement("inverse_sqrt", "transformers", "inverse_sqrt")
def _(draw):
    total, warmup = run(draw)
    timescale = draw(st.none() | st.integers(1, 99))
    make = transformers.get_inverse_sqrt_schedule
    theirs = torch_rates(lambda o: make(o, warmup, timescale=timescale), total)
    return factors("inverse_sqrt", total, warmup=warmup, timescale=timescale), theirs


@agreement("wsd", "transformers", "warmup_stable_decay, which warms up from the floor")
def _(draw):
    total, warmup = run(draw, least=2)
    cooldown, floor = draw(st.integers(1, total - warmup)), draw(FRACTIONS)
    shapes = draw(st.sampled_from([("linear", "linear"), ("cosine", "cosine"), ("sqrt", "1-sqrt")]))
    climb = draw(st.sampled_from(["linear", "cosine"]))
    make = transformers.get_wsd_schedule
    theirs = torch_rates(
        lambda o: make(o, warmup, cooldown, total, warmup_type=climb, decay_type=shapes[1], min_lr_ratio=floor), total
    )
    own = {"warmup": warmup, "warmup_shape": climb, "warmup_start": floor, "floor": floor}
    return factors("wsd", total, cooldown=cooldown, shape=shapes[0], **own), theirs


@agreement("wsd", "timm", "WSDLRScheduler")
def _(draw):
    total, warmup = run(draw, least=2)
    cooldown, floor = draw(st.integers(1, total - warmup)), draw(FRACTIONS)
    theirs = timm_rates(
        "WSDLRScheduler", total, t_initial=total - warmup, decay_t=cooldown, lr_min=floor, warmup_t=warmup
    )
    return factors("wsd", total, warmup=warmup, cooldown=cooldown, floor=floor), theirs


@agreement("one_cycle", "torch", "OneCycleLR, whose run is one longer")
def _(draw):
    tenths, rise = draw(st.integers(2, 6)), draw(st.integers(1, 9))
    total, low, lowest = 10 * tenths, draw(st.floats(1.5, 50.0)), draw(st.floats(1.5, 1e4))
    shape, theirs_shape = draw(st.sampled_from([("cosine", "cos"), ("linear", "linear")]))
    make = torch.optim.lr_scheduler.OneCycleLR
    own = {"div_factor": low, "final_div_factor": lowest, "anneal_strategy": theirs_shape, "pct_start": rise / 10}
    theirs = torch_rates(lambda o: make(o, max_lr=1.0, total_steps=total, **own), total - 1)
    mine = {"warmup_start": 1 / low, "floor": 1 / (low * lowest), "warmup_shape": shape, "warmup": rise * tenths - 1}
    return factors("one_cycle", total - 1, **mine), theirs


@agreement("one_cycle", "optax", "cosine_onecycle_schedule")
def _(draw):
    tenths, rise = draw(st.integers(2, 6)), draw(st.integers(1, 9))
    total, low, lowest = 10 * tenths, draw(st.floats(1.5, 50.0)), draw(st.floats(1.5, 1e4))
    peak = int(rise / 10 * total)
    theirs = optax_rates("cosine_onecycle_schedule", total, total, 1.0, rise / 10, low, lowest)
    return factors("one_cycle", total, warmup=peak, warmup_start=1 / low, floor=1 / (low * lowest)), theirs


@agreement("cyclic", "torch", "CyclicLR")
def _(draw):
    total, up, down, floor = (
        draw(st.integers(1, 60)),
        draw(st.integers(1, 20)),
        draw(st.integers(1, 20)),
        draw(FRACTIONS),
    )
    mode = draw(st.sampled_from(["triangular", "triangular2", "exp_range"]))
    gamma = draw(RATIOS) if mode == "exp_range" else 1.0
    make = torch.optim.lr_scheduler.CyclicLR
    own = {"step_size_up": up, "step_size_down": down, "mode": mode, "gamma": gamma, "cycle_momentum": False}
    theirs = torch_rates(lambda o: make(o, base_lr=floor, max_lr=1.0, **own), total)
    return factors("cyclic", total, up=up, down=down, mode=mode, gamma=gamma, floor=floor), theirs


@agreement("piecewise", "optax", "piecewise_interpolate_schedule")
def _(draw):
    total, marks = draw(st.integers(1, 60)), milestones(draw)
    marks = [mark for mark in marks if mark <= total] or [total]
    values = [1.0]
    scales = {mark: draw(RATIOS) for mark in marks}
    for scale in scales.values():
        values.append(values[-1] * scale)
    theirs = optax_rates("piecewise_interpolate_schedule", total, "linear", 1.0, scales)
    return factors("piecewise", total, points=list(zip([0, *marks], values, strict=True))), theirs


@agreement("phases", "torch", "SequentialLR")
def _(draw):
    first, second = draw(st.integers(2, 30)), draw(st.integers(1, 30))
    library = torch.optim.lr_scheduler

    def make(optimizer):
        parts = [library.LinearLR(optimizer, 1.0, 0.5, first), library.CosineAnnealingLR(optimizer, second)]
        return library.SequentialLR(optimizer, parts, [first])

    phases = [{"schedule": {"name": "linear", "floor": 0.5}, "duration": first}, {"schedule": "cosine"}]
    return factors("phases", first + second, phases=phases), torch_rates(make, first + second)


@agreement("phases", "optax", "join_schedules")
def _(draw):
    optax = pytest.importorskip("optax", reason="optax is not installed")
    first, second = draw(st.integers(1, 30)), draw(st.integers(1, 30))
    parts = [optax.linear_schedule(1.0, 0.5, first), optax.cosine_decay_schedule(1.0, second)]
    phases = [{"schedule": {"name": "linear", "floor": 0.5}, "duration": first}, {"schedule": "cosine"}]
    theirs = optax_rates("join_schedules", first + second, parts, [first])
    return factors("phases", first + second, phases=phases), theirs


@agreement("product", "torch", "ChainedScheduler")
def _(draw):
    total, gamma, every, ratio = draw(st.integers(1, 60)), draw(RATIOS), draw(st.integers(1, 70)), draw(RATIOS)
    library = torch.optim.lr_scheduler

    def make(optimizer):
        return library.ChainedScheduler(
            [library.StepLR(optimizer, every, gamma), library.ExponentialLR(optimizer, ratio)], optimizer=optimizer
        )

    of = [{"name": "step", "gamma": gamma, "every": every}, {"name": "exponential", "gamma": ratio}]
    return factors("product", total, of=of), torch_rates(make, total)


@agreement("plateau", "torch", "ReduceLROnPlateau")
def _(draw):
    losses = draw(st.lists(st.floats(0.1, 9.0), min_size=1, max_size=40))
    gamma, patience, rest = draw(st.floats(0.1, 0.9)), draw(st.integers(0, 4)), draw(st.integers(0, 3))
    floor = draw(FRACTIONS)
    optimizers = [torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0) for _ in range(2)]
    schedule = Plateau(gamma=gamma, patience=patience, rest=rest, floor=floor)
    ours = make_scheduler(optimizers[0], schedule, total_steps=99)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizers[1], factor=gamma, patience=patience, cooldown=rest, min_lr=floor, eps=0.0
    )
    rates = ([], [])
    for loss in losses:
        ours.observe(loss)
        theirs.step(loss)
        for seen, optimizer in zip(rates, optimizers, strict=True):
            seen.append(optimizer.param_groups[0]["lr"])
    return rates


@pytest.mark.parametrize(("schedule", "library"), AGREEMENT)
def test_equal_at_every_update(schedule, library):
    _, both = AGREEMENT[schedule, library]

    @settings(max_examples=15 if library == "optax" else 25)
    @given(both)
    def check(sides):
        ours, theirs = sides
        assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-9)

    check()


LIBRARIES = ("transformers", "torch", "timm", "optax")


def readme_table():
    rows = [f"| schedule | {' | '.join(LIBRARIES)} |", "|---" * (len(LIBRARIES) + 1) + "|"]
    for name in SCHEDULES:
        cells = [AGREEMENT.get((name, library), ("",))[0] for library in LIBRARIES]
        if any(cells):
            rows.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(rows)


def test_the_readme_has_the_table_that_is_tested():
    assert readme_table() in README.read_text(encoding="utf-8")
