"""Training beside its peers: real tokens a second, memory, and the loss that the same steps reach.

Rows of the demo's behaviour stage, LoRA of rank 64 on the attention, batches of 16, fp32, hard
targets. The clock runs from the first step to the end, optimiser and final checkpoint included.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch.nn import functional

from benchmarks import flops
from benchmarks.bench import Peer, Sample, chosen, interleave, job, relative
from benchmarks.child import in_child
from benchmarks.command import Options, section_command
from benchmarks.machine import SIZE
from benchmarks.material import LORA_RANK, Task, read_training
from benchmarks.results import Measure, Section
from offswitch.folder.provenance import peak_memory_mb

PEERS: Final = (
    Peer("ours", "offswitch.train"),
    Peer("ours_auto", "offswitch.train, train.precision=auto (bfloat16 products)"),
    Peer("trl_stock", "TRL SFTTrainer, its defaults: bf16, gradient checkpointing"),
    Peer("trl_fp32", "TRL SFTTrainer, its defaults in fp32"),
    Peer("trl_padded", "TRL SFTTrainer, fp32, no checkpointing"),
    Peer("trl_flat", "TRL SFTTrainer, fp32, no checkpointing, padding-free"),
    Peer("hugging_face", "Hugging Face Trainer, padded to the longest row"),
    Peer("seed", "the original's loop: 1 row x 16 accumulated"),
)
MEASURES: Final = (
    Measure("tokens_per_second", "real tokens/s", 1),
    Measure("share", "share of product rate, %", 1),
    Measure("peak_mb", "peak memory, MB", 0),
    Measure("loss", "loss afterwards, nats", 4),
    Measure("loss_difference", "from ours, %", 2),
)


def run(options: Options) -> Section:
    """Every peer in turn, each in a fresh process."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        asked = job(model=options.folder, folder=folder, steps=options.steps)
        made = in_child("benchmarks.material:write_training", asked)
        if made.failure:
            return Section("Training", "", PEERS, MEASURES, {"ours": [made]}, "tokens_per_second")
        peers = chosen(PEERS, options.only)
        found = interleave(
            [peer.name for peer in peers], options.repeats, lambda name: _run(name, options, folder)
        )
        task = read_training(folder)
    rate = in_child("benchmarks.machine:rate_in_child", job(size=options.product_size or SIZE))
    needed = needed_operations(task, options.folder)
    product = rate.numbers.get("product_rate", float("nan"))
    told = (
        f"{task.steps} steps of {task.batch} rows, {task.tokens:,} real tokens,"
        f" {needed / 1e12:.2f} TFLOP needed; matrix products: {product / 1e9:.0f} GFLOP/s."
        " The loss is that of the trained adapter on 16 rows kept apart."
    )
    samples = _completed(found, needed / product)
    return Section("Training", told, tuple(peers), MEASURES, samples, "tokens_per_second")


def _run(name: str, options: Options, folder: Path) -> Sample:
    options.say(f"training: {name}")
    with tempfile.TemporaryDirectory() as out:
        asked = job(peer=name, model=options.folder, folder=folder, out=out)
        return in_child("benchmarks.training:run_peer", asked)


def run_peer(asked: dict[str, Any]) -> dict[str, float]:
    """Train as one peer does, for a child; memory is read before the loss is taken."""
    from benchmarks.training_peers import TRAINERS

    folder, out = Path(asked["folder"]), Path(asked["out"])
    task = read_training(folder)
    seconds = TRAINERS[asked["peer"]](task, asked["model"], folder, out)
    return {
        "seconds": seconds,
        "tokens_per_second": task.tokens / seconds,
        "peak_mb": peak_memory_mb(),
        "loss": held_out_loss(asked["model"], out / "adapter", task),
    }


@torch.inference_mode()
def held_out_loss(model: str, adapter: Path, task: Task) -> float:
    """Mean nats a supervised token of the rows kept apart, by plain transformers and peft."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    network: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    network = PeftModel.from_pretrained(network, str(adapter)).eval()
    total, count = 0.0, 0
    for row, start in zip(task.held_rows, task.held_starts, strict=True):
        logits = network(input_ids=torch.tensor([row])).logits[0, start - 1 : -1]
        target = torch.tensor(row[start:])
        total += float(functional.cross_entropy(logits, target, reduction="sum"))
        count += len(target)
    return total / count


def needed_operations(task: Task, model: str | Path) -> float:
    """What the steps need at least, in floating-point operations."""
    from transformers import AutoConfig

    shape = flops.shape_of(AutoConfig.from_pretrained(str(model)))
    seen, total = task.seen, 0.0
    for first in range(0, len(seen), task.batch):
        rows, starts = zip(*seen[first : first + task.batch], strict=True)
        total += flops.training_step(shape, flops.count_batch(rows, starts), LORA_RANK)
    return total


def _completed(found: dict[str, list[Sample]], seconds_at_best: float) -> dict[str, list[Sample]]:
    """Adds the share of the product rate, and how far each loss lies from ours."""
    reference = [s.numbers["loss"] for s in found.get("ours", ()) if s.numbers]

    def complete(sample: Sample) -> Sample:
        if sample.failure:
            return sample
        more = {"share": 100 * seconds_at_best / sample.numbers["seconds"]}
        if reference:
            more["loss_difference"] = 100 * relative(sample.numbers["loss"], reference[0])
        return Sample({**sample.numbers, **more})

    return {name: [complete(one) for one in samples] for name, samples in found.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run this section alone and print its table."""
    section_command(run, argparse.ArgumentParser(description=__doc__), arguments)


if __name__ == "__main__":
    main()
