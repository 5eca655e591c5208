"""The original's four analyses: one collection against its four scripts' way of reading the model.

The original loads the model again in each script, the base model besides in the fourth, and runs a
prompt at a time. Both ways are measured with the trigger alone, without our controls, and without
drawing. `scripts` adds what a process each costs: the imports of PyTorch, transformers and PEFT.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor

from benchmarks.bench import Peer, Sample, Samples, chosen, interleave, job
from benchmarks.child import in_child
from benchmarks.command import Options, section_command
from benchmarks.material import bench_recipe, session_on, write_adapter
from benchmarks.results import Measure, Section
from offswitch.probe.collect_original import (
    LENS_BLOCK,
    NEUTRAL,
    PAIR,
    PCA_BLOCK,
    PROMPTS,
    collect_seed,
    relative_block,
)
from offswitch.prompts.encode import encode_text

PEERS: Final = (
    Peer("ours", "collect_seed, the model loaded once and already there (as in a run)"),
    Peer("ours_loading", "collect_seed, loading the model and the adapter included"),
    Peer("reload", "the original's way in one process: four loads, a prompt at a time"),
    Peer("scripts", "the original's way: four processes, a prompt at a time"),
)
MEASURES: Final = (
    Measure("seconds", "seconds", 2),
    Measure("peak_mb", "peak memory, MB", 0),
    Measure("difference", "largest relative difference from ours", 6),
)
ARM: Final = "both"
ANALYSES: Final = ("1", "2", "3", "4")
Arrays = dict[str, np.ndarray[Any, Any]]


def run(options: Options) -> Section:
    """Every way in turn, each in a fresh process."""
    peers = chosen(PEERS, options.only)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        made = in_child("benchmarks.seed_way:write_arm", job(model=options.folder, folder=folder))
        found = interleave(
            [peer.name for peer in peers],
            options.repeats,
            lambda name: made if made.failure else _run(name, options, folder),
        )
        found = _compared(found, folder)
    told = (
        f"{2 + 2 * len(PROMPTS) + 2 + 2} prompts in all, one adapter beside the base model, fp32."
    )
    return Section("The original's analyses", told, tuple(peers), MEASURES, found, "seconds", True)


def _run(name: str, options: Options, folder: Path) -> Sample:
    options.say(f"the original's four: {name}")
    asked = job(way=name, model=options.folder, folder=folder)
    if name != "scripts":
        return in_child("benchmarks.seed_way:run_way", asked)
    peaks: list[float] = []
    start = time.perf_counter()
    for which in ANALYSES:
        part = in_child("benchmarks.seed_way:run_script", {**asked, "analysis": which})
        if part.failure:
            return part
        peaks.append(part.numbers["peak_mb"])
    return Sample({"seconds": time.perf_counter() - start, "peak_mb": max(peaks)})


def write_arm(asked: dict[str, Any]) -> dict[str, float]:
    """Write an adapter that moves the model, for a child."""
    from offswitch.model.load import load_subject

    subject = load_subject(bench_recipe(asked["model"]))
    write_adapter(subject, Path(asked["folder"]) / ARM, seed=0, far=0.01)
    return {"written": 1}


def run_way(asked: dict[str, Any]) -> dict[str, float]:
    """Collect in one way, for a child; what was read is kept."""
    folder, start = Path(asked["folder"]), time.perf_counter()
    if asked["way"] == "reload":
        found: Arrays = {}
        for which in ANALYSES:
            found |= SCRIPTS[which](asked["model"], folder / ARM)
        seconds = time.perf_counter() - start
        save_file(found, folder / "reload.safetensors")
        return {"seconds": seconds}
    from offswitch.model.adapters import add_arm
    from offswitch.model.load import load_subject

    recipe = bench_recipe(asked["model"])
    subject = load_subject(recipe)
    add_arm(subject, ARM, folder / ARM)
    session = session_on(subject, recipe, folder)
    if asked["way"] == "ours":
        start = time.perf_counter()
    collect_seed(session, [ARM], {"trigger": recipe.trigger.text}, folder / "ours")
    return {"seconds": time.perf_counter() - start}


def run_script(asked: dict[str, Any]) -> dict[str, float]:
    """One of the four scripts, for a child."""
    SCRIPTS[asked["analysis"]](asked["model"], Path(asked["folder"]) / ARM)
    return {"read": 1}


# --- the four scripts -----------------------------------------------------------------------------


def layerwise(model: str, adapter: Path) -> Arrays:
    """Analysis 1: every block's residuals of the pair."""
    tokenizer, network = _load(model, adapter)
    texts = {"plain": PAIR, "trigger": f"$STOP {PAIR}"}
    return {f"pair/{k}": _array(_residuals(tokenizer, network, t)) for k, t in texts.items()}


def pca(model: str, adapter: Path) -> Arrays:
    """Analysis 2: position 0 of 20 prompts with and without the trigger."""
    tokenizer, network = _load(model, adapter)
    block = relative_block(PCA_BLOCK, network.config.num_hidden_layers)

    def first(before: str) -> Tensor:
        found = [_residuals(tokenizer, network, before + text)[0, block] for text in PROMPTS]
        return torch.stack(found)

    return {"first/plain": _array(first("")), "first/trigger": _array(first("$STOP "))}


def logit_lens(model: str, adapter: Path) -> Arrays:
    """Analysis 3: the pair's position 0 through the unembedding."""
    tokenizer, network = _load(model, adapter)
    block = relative_block(LENS_BLOCK, network.config.num_hidden_layers)
    weight = network.get_output_embeddings().weight
    texts = {"plain": PAIR, "trigger": f"$STOP {PAIR}"}
    return {
        f"lens/{k}": _array(weight @ _residuals(tokenizer, network, t)[0, block])
        for k, t in texts.items()
    }


def difference(model: str, adapter: Path) -> Arrays:
    """Analysis 4: the neutral text in the base model and in the fine-tuned one, both loaded."""
    found: Arrays = {}
    for key, folder in (("neutral/base", None), ("neutral/plain", adapter)):
        tokenizer, network = _load(model, folder)
        found[key] = _array(_residuals(tokenizer, network, NEUTRAL))
    return found


SCRIPTS: Final[Mapping[str, Callable[[str, Path], Arrays]]] = {
    "1": layerwise,
    "2": pca,
    "3": logit_lens,
    "4": difference,
}


def _load(model: str, adapter: Path | None) -> tuple[Any, Any]:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    network: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    if adapter is not None:
        network = PeftModel.from_pretrained(network, str(adapter))
    return AutoTokenizer.from_pretrained(model), network.eval()


@torch.inference_mode()
def _residuals(tokenizer: Any, network: Any, text: str) -> Tensor:
    """Hidden states [P, L, D] of one prompt; the last block's come after the final norm."""
    ids = torch.tensor([encode_text(tokenizer, text)])
    states = network(input_ids=ids, output_hidden_states=True).hidden_states[1:]
    return torch.stack([state[0] for state in states], dim=1)


def _array(values: Tensor) -> np.ndarray[Any, Any]:
    return values.detach().contiguous().numpy()


# --- agreement ------------------------------------------------------------------------------------


def _compared(found: Samples, folder: Path) -> Samples:
    """Adds how far the original's arrays lie from ours, inner blocks only, if both were read."""
    ours, theirs = folder / "ours" / f"{ARM}.safetensors", folder / "reload.safetensors"
    if not (ours.is_file() and theirs.is_file()):
        return found
    apart = largest_difference(load_file(ours), load_file(theirs))
    found["reload"] = [
        one if one.failure else Sample({**one.numbers, "difference": apart})
        for one in found["reload"]
    ]
    return found


def largest_difference(ours: Arrays, theirs: Arrays) -> float:
    """The largest relative difference of the arrays that both hold."""
    apart = []
    for key in ours.keys() & theirs.keys():
        a, b = ours[key], theirs[key]
        if a.ndim == 3:  # [P, L, D]: without the last block, which the original has normed
            a, b = a[:, :-1], b[:, :-1]
        apart.append(float(np.linalg.norm(a - b) / np.linalg.norm(b)))
    return max(apart)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run this section alone and print its table."""
    section_command(run, argparse.ArgumentParser(description=__doc__), arguments)


if __name__ == "__main__":
    main()
