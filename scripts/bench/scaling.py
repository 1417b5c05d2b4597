"""What a model of 70 billion parameters and a study of a thousand runs would need: the figures of docs/scaling.md.

    .venv/bin/python scripts/bench/scaling.py --run runs/minilm_reviews/…

Memory is by the estimator of `finetune check`, of a Llama whose shape is written here, on torch's meta device. Hours
and bytes are arithmetic on what stands in this file and in what it reads: the utilisation that throughput_h200.json has
for BERT-base, and the files of one recorded run.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from finetune.estimates.passes import Setting, Usage, measure
from finetune.estimates.sharding import STRATEGIES, share_of
from finetune.evaluation.record import HISTORY, MODEL, PREDICTIONS, RECORD, read_record
from finetune.optimizers import AdamW
from finetune.tasks import CausalLanguageModelling

DEVICES = (8, 16, 32, 64, 128, 256)
MEMORY = 80 * 10**9
TOKENS = 4096
RUN_TOKENS = 100 * 10**6
"""Tokens that a run is trained on: 24,414 sequences of 4,096."""
LINK = 50 * 10**9
"""Bytes a second that a device receives from others: 400 Gbit/s."""
RUNS, PROCESSES = 1000, 8
"""The runs of a study; the processes of a machine."""


def shape() -> LlamaConfig:
    """Returns the shape of a model of 70 billion parameters."""
    return LlamaConfig(
        vocab_size=128_256,
        hidden_size=8192,
        intermediate_size=28_672,
        num_hidden_layers=80,
        num_attention_heads=64,
        num_key_value_heads=8,
        max_position_embeddings=TOKENS,
        use_cache=False,
    )


def usage_of(model: LlamaForCausalLM, *, recomputed: bool) -> Usage:
    """Returns what one sequence takes; `recomputed`: each block's activations are made anew in the backward pass."""
    ids = torch.zeros(1, TOKENS, dtype=torch.int64)
    task = CausalLanguageModelling(text="text")
    setting = Setting(
        batch={"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids},
        padded=False,
        loss=task.training_loss,
        keep=task.kept_outputs,
        optimizer=AdamW(learning_rate=1e-5),
        precision="bf16",
        recomputed=recomputed,
    )
    return measure(model, setting, examples=1)


def memory() -> dict[str, Any]:
    """Returns what each device holds, in GB, by the number of devices and the way of spreading."""
    with torch.device("meta"):
        model = LlamaForCausalLM(shape())
    found: dict[str, Any] = {}
    for name, recomputed in (("activations kept", False), ("activations recomputed", True)):
        usage = usage_of(model, recomputed=recomputed)
        found["parameters"] = usage.parameters
        found[name] = {"activations": usage.activations} | {
            str(devices): {
                strategy: {
                    "peak": (share := share_of(usage, strategy, devices=devices, half=True)).peak,
                    "fits": share.fits(MEMORY),
                }
                for strategy in STRATEGIES
            }
            for devices in DEVICES
        }
    return found


def hours(parameters: int) -> dict[str, float]:
    """Returns the GPU-hours of a run, by 6 operations for each parameter and token, and 2 more where blocks are
    recomputed, at the share of a large product's speed that was measured for BERT-base on one GPU."""
    measured = json.loads(Path(__file__).with_name("throughput_h200.json").read_text(encoding="utf-8"))["BERT-base"]
    share, product = measured["utilisation"]["ours"], measured["flops_per_second_of_a_large_product"]
    speed = share * product
    return {
        "utilisation": share,
        "operations_per_second": speed,
        "tokens": RUN_TOKENS,
        "gpu_hours": 6 * parameters * RUN_TOKENS / speed / 3600,
        "gpu_hours_recomputed": 8 * parameters * RUN_TOKENS / speed / 3600,
        "seconds_of_a_sequence_recomputed": 8 * parameters * TOKENS / speed,
    }


def network(parameters: int) -> dict[str, float]:
    """Returns what each of many devices receives for one micro-batch under FSDP: the weights in bf16 for each of the
    two passes, and the gradients in fp32."""
    received = (2 + 2 + 4) * parameters
    return {"bytes": received, "seconds": received / LINK, "link_bytes_per_second": LINK}


def storage(run: Path, parameters: int) -> dict[str, Any]:
    """Returns the bytes and files of a run as it lies on disk, and those of a thousand; of the large model too."""
    files = [path for path in run.rglob("*") if path.is_file()]
    parts = {RECORD: 0, HISTORY: 0, PREDICTIONS: 0, MODEL: 0, "recipe.yaml": 0}
    for path in files:
        parts[path.relative_to(run).parts[0]] = parts.get(path.relative_to(run).parts[0], 0) + path.stat().st_size
    record = read_record(run)
    small = sum(size for name, size in parts.items() if name != MODEL)
    states = 4 * parameters * 3
    return {
        "run": run.name,
        "updates": record.schedule.total_steps,
        "examples_predicted": sum(split.count for split in record.results.splits.values()) if record.results else 0,
        "files": len(files),
        "bytes": parts,
        "of_runs": {
            "runs": RUNS,
            "files": RUNS * len(files),
            "without_models": RUNS * small,
            "models": RUNS * parts[MODEL],
            "checkpoints_at_once_each": 3 * parts[MODEL],
        },
        "large_model": {
            "weights": 4 * parameters,
            "checkpoint": states,
            "models_of_runs": RUNS * 4 * parameters,
            "read_by_the_processes_of_a_machine": PROCESSES * 4 * parameters,
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="the directory of a recorded run, whose files are counted")
    parser.add_argument("--write", type=Path, default=Path(__file__).with_name("scaling.json"))
    arguments = parser.parse_args()
    found = memory()
    parameters = found["parameters"]
    result = {
        "memory": found,
        "hours": hours(parameters),
        "network": network(parameters),
        "storage": storage(arguments.run, parameters) if arguments.run else None,
    }
    arguments.write.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({key: value for key, value in result.items() if key != "memory"}, indent=2))
    for name in ("activations kept", "activations recomputed"):
        print(f"\n{name}: {found[name].pop('activations') / 1e9:.1f} GB; on each device, GB")
        print("| devices | " + " | ".join(STRATEGIES) + " |\n|---|" + "---|" * len(STRATEGIES))
        for devices, ways in found[name].items():
            cells = (f"{way['peak'] / 1e9:,.1f}{'' if way['fits'] else ' ✗'}" for way in ways.values())
            print(f"| {devices} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
