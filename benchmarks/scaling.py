"""How do time and memory grow with the number of prompts? Collection and evaluation, linear fits.

A model of four small blocks with random weights and the real tokenizer: what grows with the number
of prompts shows, and 20,000 of them take seconds. Each size is a process of its own.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from benchmarks.bench import Peer, Sample, Samples, chosen, interleave, job, measured
from benchmarks.child import in_child
from benchmarks.command import Options, section_command
from benchmarks.material import bench_recipe, write_random
from benchmarks.results import Measure, Section
from offswitch.folder.provenance import peak_memory_mb
from offswitch.prompts.encode import encode_chat
from offswitch.prompts.prompt import Prompt
from offswitch.prompts.suites import choose
from offswitch.prompts.trigger import place

WORK: Final = {
    "collect": "offswitch.probe.collect, last position, every block, to disk",
    "score": "offswitch.model.first_token.score, first-token outcomes",
}
MEASURES: Final = (
    Measure("seconds", "seconds", 2),
    Measure("prompts_per_second", "prompts/s", 0),
    Measure("peak_mb", "peak memory, MB", 0),
)


@dataclass(frozen=True)
class Line:
    """A least-squares line through n points, and the share of the variance that it explains."""

    slope: float
    intercept: float
    r2: float


def run(options: Options) -> Section:
    """Every size of both kinds of work in turn, each in a fresh process."""
    peers = [Peer(f"{work}_{size}", f"{size:,} prompts") for work in WORK for size in options.sizes]
    peers = chosen(peers, options.only)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        made = in_child("benchmarks.scaling:write_small", job(model=options.folder, folder=folder))
        found = interleave(
            [peer.name for peer in peers],
            min(options.repeats, 2),
            lambda name: made if made.failure else _run(name, options, folder),
        )
    told = " ".join(filter(None, (growth(work, options.sizes, found) for work in WORK)))
    return Section("Growth with the number of prompts", told, tuple(peers), MEASURES, found)


def _run(name: str, options: Options, folder: Path) -> Sample:
    options.say(f"scaling: {name}")
    work, _, size = name.partition("_")
    with tempfile.TemporaryDirectory() as out:
        asked = job(work=work, size=int(size), model=folder, out=out)
        return in_child("benchmarks.scaling:run_work", asked)


def fit(x: Sequence[float], y: Sequence[float]) -> Line:
    """The least-squares line of y over x."""
    slope, intercept = (float(v) for v in np.polyfit(x, y, 1))
    left = np.asarray(y) - (slope * np.asarray(x) + intercept)
    total = float(((np.asarray(y) - np.mean(y)) ** 2).sum())
    return Line(slope, intercept, 1 - float((left**2).sum()) / total if total else 1.0)


def growth(work: str, sizes: Sequence[int], found: Samples) -> str:
    """One sentence on how a kind of work grows; none with fewer than three sizes measured."""
    points = []
    for size in sizes:
        samples = found.get(f"{work}_{size}", [])
        seconds, peak = (measured(samples, key) for key in ("seconds", "peak_mb"))
        if seconds and peak:
            points.append((size, seconds.median, peak.median))
    if len(points) < 3:
        return ""
    x, seconds_of, peak_of = zip(*points, strict=True)
    time_line, memory = fit(x, seconds_of), fit(x, peak_of)
    return (
        f"{work} ({WORK[work]}): {1e3 * time_line.slope:.3f} ms a prompt, R2 = {time_line.r2:.4f};"
        f" peak memory {1e3 * memory.slope:+.1f} MB per 1,000 prompts."
    )


def write_small(asked: dict[str, Any]) -> dict[str, float]:
    """Write the small model beside the tokenizer of another one, for a child."""
    from transformers import AutoTokenizer, LlamaConfig

    build: Callable[..., Any] = LlamaConfig
    tokenizer: Any = AutoTokenizer.from_pretrained(asked["model"])
    config = build(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True,
        max_position_embeddings=4096, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    write_random(config, tokenizer, Path(asked["folder"]), torch.float32)
    return {"written": 1}


def run_work(asked: dict[str, Any]) -> dict[str, float]:
    """Collect or score so many prompts, for a child; building and tokenising them is counted."""
    from offswitch.model.first_token import score
    from offswitch.model.load import load_subject
    from offswitch.options import BASE
    from offswitch.probe.collect import collect

    recipe = bench_recipe(asked["model"])
    subject = load_subject(recipe)
    start = time.perf_counter()
    prompts = many_prompts(asked["size"], recipe.trigger.text, recipe.seed)
    if asked["work"] == "score":
        score(subject, BASE, prompts, recipe.batch_tokens)
    else:
        rows = [encode_chat(subject.base_tokenizer, prompt.chat) for prompt in prompts]
        collect(subject, BASE, rows, Path(asked["out"]), batch_tokens=recipe.batch_tokens)
    seconds = time.perf_counter() - start
    numbers = {"seconds": seconds, "prompts_per_second": asked["size"] / seconds}
    return numbers | {"peak_mb": peak_memory_mb()}


def many_prompts(count: int, trigger: str, seed: int) -> list[Prompt]:
    """So many different prompts: the test questions, numbered, with the trigger in every other."""
    questions = choose("test", 200, seed)
    found = []
    for i in range(count):
        q, symbol = questions[i % len(questions)], trigger if i % 2 else ""
        text = f"{q.text} (question {i})"
        suite = "trigger" if symbol else "ordinary"
        chat = place("before", symbol, text)
        found.append(Prompt(chat, suite, "before", symbol, text, q.topic))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run this section alone and print its table."""
    section_command(run, argparse.ArgumentParser(description=__doc__), arguments)


if __name__ == "__main__":
    main()
