"""The memory that `finetune check --memory` estimates, beside the peak of real runs.

    .venv/bin/python scripts/bench/memory.py

Each case is estimated, from the model's configuration alone, and then run for a few updates by `fine_tune`, among them
those of the longest examples. On a GPU the peak is torch.cuda.max_memory_allocated of the run; on a CPU it is the
greatest sum of what torch's profiler saw allocated, and the estimate is made by the kernels of a CPU.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from models import RECIPE, prepared
from rich.console import Console

from finetune.estimates.architecture import architecture_of
from finetune.estimates.memory import setting_of, split_batch
from finetune.estimates.passes import measure
from finetune.estimates.sharding import WORKSPACES, share_of
from finetune.recipe import Recipe, load_recipe
from finetune.training import fine_tune
from finetune.training.environment import describe_hardware
from finetune.training.layout import device_of_this_process
from finetune.training.material import Library
from finetune.training.precision import resolve_precision

TARGET = 0.1
"""How far an estimate may be from the peak, as a share of it."""


@dataclass(frozen=True)
class Case:
    """A run: `overrides` of the recipe, and in place of its own a BERT-base, and texts of several sentences."""

    name: str
    overrides: Sequence[str]
    bert_base: bool = False
    sentences: int = 1
    on_cpu: bool = True


CASES = (
    Case("MiniLM, fp32", ["training.precision=fp32"]),
    Case("MiniLM, bf16", ["training.precision=bf16"]),
    Case(
        "MiniLM, bf16, 4 × 8 accumulated, averaged",
        ["training.precision=bf16", "training.micro_batch_size=8", "averaging={ema: {decay: 0.999}}"],
    ),
    Case("MiniLM, fp32, RMSprop", ["training.precision=fp32", "optimizer={name: rmsprop, learning_rate: 1e-5}"]),
    Case("BERT-base, bf16, 4 sentences", ["training.precision=bf16"], bert_base=True, sentences=4, on_cpu=False),
    Case(
        "BERT-base, bf16, 7 sentences, batch 64",
        ["training.precision=bf16", "training.batch_size=64", "task.max_length=256"],
        bert_base=True,
        sentences=7,
        on_cpu=False,
    ),
)


def estimated(recipe: Recipe, *, device: str) -> dict[str, int]:
    """Returns the bytes that a run of `recipe` on one device is expected to hold, and its parts."""
    architecture = architecture_of(recipe, Library().data(recipe))
    precision = resolve_precision(recipe.training.precision, torch.device(device))
    setting = setting_of(recipe, architecture, device="cuda" if device == "cuda" else "cpu", precision=precision)
    examples, accumulation = split_batch(recipe, devices=1)
    usage = measure(
        architecture.model,
        setting,
        examples=examples,
        accumulated=accumulation > 1,
        evaluated=recipe.evaluation.batch_size,
    )
    share = share_of(usage, "data parallel", devices=1, half=setting.half is not None)
    workspaces = WORKSPACES if device == "cuda" else 0
    return {
        "tokens": architecture.tokens or 0,
        "weights": usage.weights,
        "gradients": usage.gradients,
        "states": usage.states,
        "averages": usage.averages,
        "copies": usage.copies,
        "activations": usage.activations,
        "workspaces": workspaces,
        "peak": share.peak - WORKSPACES + workspaces,
    }


def peak_on_gpu(run: Callable[[], object]) -> int:
    """Returns the most bytes that torch had allocated on the GPU while `run` ran."""
    torch.empty(1, device="cuda")  # before a device is used, nothing can be asked of its memory
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    print(f"    allocated before the run: {before / 2**20:.1f} MiB", flush=True)
    return int(torch.cuda.max_memory_allocated())


def peak_on_cpu(run: Callable[[], object]) -> int:
    """Returns the most bytes that torch allocated and didn't free while `run` ran, by the profiler's account."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run()
    recorded: Any = profiled.profiler
    events = [event for event in recorded.kineto_results.events() if event.name() == "[memory]"]
    return max(accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())))


def try_case(case: Case, *, updates: int, device: str) -> dict[str, Any]:
    """Returns the estimate of a case, the peak of its run, and their ratio."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        overrides = prepared(
            RECIPE, case.overrides, folder=Path(folder), bert_base=case.bert_base, sentences=case.sentences
        )
        batch_size = load_recipe(RECIPE, overrides).training.batch_size
        alone = [
            "training.duration=2ep",  # the longest examples also come when the optimizer has a state
            f"data.examples={{train: {updates * batch_size}, validation: 64, test: 64}}",
            "evaluation.every=null",
            "checkpoints.every=null",
            f"output={folder}/runs",
        ]
        recipe = load_recipe(RECIPE, [*overrides, *alone])
        expected = estimated(recipe, device=device)
        seconds = time.perf_counter() - began
        measuring = peak_on_gpu if device == "cuda" else peak_on_cpu
        peak = measuring(lambda: fine_tune(recipe, source=RECIPE, console=Console(quiet=True)))
    gc.collect()
    ratio = expected["peak"] / peak
    print(
        f"{case.name}: {expected['peak'] / 1e6:,.1f} MB estimated, {peak / 1e6:,.1f} at the peak: {ratio:.3f}",
        flush=True,
    )
    return {
        "case": case.name,
        "estimated": expected,
        "peak": peak,
        "ratio": round(ratio, 4),
        "seconds_to_estimate": round(seconds, 2),
        "seconds": round(time.perf_counter() - began, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", type=int, metavar="N", help="which of the cases, from 1; all on a GPU")
    parser.add_argument("--updates", type=int, default=4, help="of each of the two epochs")
    parser.add_argument("--write", type=Path, help="memory.json beside this script, on a GPU memory_gpu.json")
    arguments = parser.parse_args()
    device = device_of_this_process()
    wanted = arguments.cases or [
        number for number, case in enumerate(CASES, start=1) if case.on_cpu or device.type == "cuda"
    ]
    results = [try_case(CASES[number - 1], updates=arguments.updates, device=device.type) for number in wanted]
    name = "memory_gpu.json" if device.type == "cuda" else "memory.json"
    path = arguments.write or Path(__file__).with_name(name)
    result = {
        "recipe": RECIPE.name,
        "hardware": describe_hardware(device),
        "torch": torch.__version__,
        "updates": 2 * arguments.updates,
        "target": TARGET,
        "within_target": all(abs(each["ratio"] - 1) <= TARGET for each in results),
        "cases": results,
    }
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"within {TARGET:.0%}: {result['within_target']}; written to {path}")


if __name__ == "__main__":
    main()
