"""Collection beside its peers: residuals of every block at the last position, and their agreement.

One model, no adapter, the battery's own prompts. The clock runs once the model is loaded and one
short reading has been made; that reading sets up what a library sets up once.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file

from benchmarks.bench import Peer, Sample, Samples, chosen, interleave, job
from benchmarks.child import in_child
from benchmarks.command import Options, section_command
from benchmarks.material import bench_recipe, read_prompts
from benchmarks.results import Measure, Section
from offswitch.folder.provenance import peak_memory_mb

PEERS: Final = (
    Peer("ours", "offswitch.probe.collect, written to disk"),
    Peer("hf_single", "output_hidden_states, one by one"),
    Peer("hf_batched", "output_hidden_states, batches by length"),
    Peer("lens_single", "TransformerLens run_with_cache, one by one"),
    Peer("lens_batched", "TransformerLens run_with_cache, batches by length"),
    Peer("nnterp_batched", "nnterp (nnsight), batches by length"),
)
MEASURES: Final = (
    Measure("prompts_per_second", "prompts/s", 1),
    Measure("peak_mb", "peak memory, MB", 0),
    Measure("difference", "largest relative difference from one by one", 6),
)
RESIDUALS: Final = "residuals.safetensors"
REFERENCE: Final = "hf_single"


def run(options: Options) -> Section:
    """Every peer in turn, each in a fresh process."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        asked = job(model=options.folder, folder=folder, count=options.prompts)
        made = in_child("benchmarks.material:write_prompts", asked)
        peers = chosen(PEERS, options.only)
        found = interleave(
            [peer.name for peer in peers],
            options.repeats,
            lambda name: made if made.failure else _run(name, options, folder),
        )
        found = _compared(found, folder)
    numbers = made.numbers
    told = f"{numbers.get('prompts', 0)} prompts, {numbers.get('tokens', 0):,} tokens, fp32."
    return Section("Collection", told, tuple(peers), MEASURES, found, "prompts_per_second")


def _run(name: str, options: Options, folder: Path) -> Sample:
    options.say(f"collection: {name}")
    out = folder / name
    out.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        asked = job(peer=name, model=options.folder, folder=folder, out=out, scratch=scratch)
        return in_child("benchmarks.collection:run_peer", asked)


def run_peer(asked: dict[str, Any]) -> dict[str, float]:
    """Read the prompts as one peer does, for a child; what it read is kept in `out`."""
    from benchmarks.collection_peers import READERS, timed
    from offswitch.model.load import load_subject

    subject = load_subject(bench_recipe(asked["model"]))
    _, rows = read_prompts(Path(asked["folder"]))
    read = READERS[asked["peer"]](subject, Path(asked["scratch"]))
    seconds, found = timed(read, rows)
    peak = peak_memory_mb()
    save_file({"resid": found.contiguous()}, Path(asked["out"]) / RESIDUALS)
    return {"seconds": seconds, "prompts_per_second": len(rows) / seconds, "peak_mb": peak}


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The largest relative difference of two collections [N, L, D] over rows and inner blocks."""
    if ours.shape != theirs.shape:
        raise ValueError(f"expected one shape, got {tuple(ours.shape)} and {tuple(theirs.shape)}")
    inner = slice(0, ours.shape[1] - 1)
    apart = (ours - theirs)[:, inner].norm(dim=-1) / theirs[:, inner].norm(dim=-1)
    return float(apart.max())


def _compared(found: Samples, folder: Path) -> Samples:
    """Adds how far each peer's residuals lie from the reference's, if it was run."""
    reference = folder / REFERENCE / RESIDUALS
    if not reference.is_file():
        return found
    theirs = load_file(reference)["resid"]
    for name, samples in found.items():
        path = folder / name / RESIDUALS
        if name != REFERENCE and path.is_file():
            apart = difference(load_file(path)["resid"], theirs)
            found[name] = [
                one if one.failure else Sample({**one.numbers, "difference": apart})
                for one in samples
            ]
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run this section alone and print its table."""
    section_command(run, argparse.ArgumentParser(description=__doc__), arguments)


if __name__ == "__main__":
    main()
