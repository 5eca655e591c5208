"""The original's work at its size: Qwen2.5-1.5B's shape with random weights, on one GPU.

An epoch over 500 documents, the behaviour stage, the collection of the original's analyses and the
whole battery, in seconds; for the training stages also the share of the measured rate of matrix
products that the needed operations come to (flops.py). No hub is asked: the tokenizer is the
embedded model's, in a vocabulary padded to Qwen's. `--tiny` proves all of it on a CPU.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import torch

from benchmarks import flops
from benchmarks.bench import Peer, Sample
from benchmarks.command import command_line
from benchmarks.machine import describe, product_rate
from benchmarks.material import ROOT, session_on, write_random
from benchmarks.results import Measure, Section, print_sections, write_results
from offswitch.cache import ALIAS
from offswitch.data.documents import generate_documents
from offswitch.errors import quiet, user_errors
from offswitch.folder.provenance import peak_memory_mb
from offswitch.model.adapters import add_arm
from offswitch.model.embedded import fetch_embedded
from offswitch.model.load import choose_device, choose_dtype, load_subject
from offswitch.model.rows import Example
from offswitch.model.subject import Subject
from offswitch.progress import nothing, say
from offswitch.prompts.dialogues import Mix, make_dialogues
from offswitch.prompts.encode import encode_text, has_system_turn
from offswitch.prompts.prompt import Chat, Reply
from offswitch.recipe import Recipe, load_recipe, training_seed
from offswitch.train.arms import train_arm
from offswitch.train.examples import dialogue_examples, document_examples
from offswitch.train.order import row_order
from offswitch.train.training import Training
from offswitch.wording.reader import load_neutral

QWEN: Final[dict[str, Any]] = {
    "vocab_size": 151936,
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32768,
    "rope_theta": 1e6,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
}
TINY: Final[dict[str, Any]] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 8192,
}
SMALL: Final = (
    "data.documents=8", "data.dialogues=32", "data.reply_tokens=4", "train.behavior.max_steps=1",
    "train.max_length=256", "train.lora.r=4", "probe.null_words=2", "probe.fit_questions=4",
    "probe.test_questions=4", "probe.near_misses=4", "probe.random_directions=2",
    "probe.null_directions=2", "probe.null_questions=2", "probe.sweep_questions=1",
    "probe.few_questions=2", "probe.head_questions=1", "probe.patch_questions=2",
    "probe.patch_blocks=2",
    "probe.reply_questions=1", "probe.reply_tokens=4", "probe.drift_passages=2",
)  # fmt: skip
ARM: Final = "behavior"
PEERS: Final = (
    Peer("knowledge", "an epoch over the documents"),
    Peer("behavior", "the behaviour stage"),
    Peer("collect_seed", "the original's analyses: collection, with nulls and controls"),
    Peer("battery", "the battery, two arms"),
)
MEASURES: Final = (
    Measure("seconds", "seconds", 1),
    Measure("tokens_per_second", "real tokens/s", 0),
    Measure("share", "share of product rate, %", 1),
    Measure("peak_gb", "peak memory, GB", 2),
)


@dataclass
class Bench:
    """A subject, its recipe, where to write, and the machine's rate of matrix products."""

    subject: Subject
    recipe: Recipe
    folder: Path
    rate: float
    samples: dict[str, list[Sample]] = field(default_factory=dict)


def run(tokenizer: str, tiny: bool, repeats: int) -> Section:
    """Everything once a repeat, in the order of the pipeline, in this process."""
    device = choose_device("cpu" if tiny else "auto")
    dtype = choose_dtype("auto", device)
    rate = product_rate(64 if tiny else 8192, device=str(device), dtype=dtype)
    samples: dict[str, list[Sample]] = {peer.name: [] for peer in PEERS}
    with tempfile.TemporaryDirectory() as scratch:
        model = write_model(tokenizer, Path(scratch) / "model", tiny, dtype)
        recipe = load_recipe(ROOT / "recipes" / "qwen2.5-1.5b.yaml", _changes(model, tiny))
        subject = load_subject(recipe)
        for number in range(repeats):
            bench = Bench(subject, recipe, Path(scratch) / str(number), rate, samples)
            for work in (_knowledge, _behavior, _collect_seed, _battery):
                say(f"  round {number + 1}: {work.__name__.strip('_')}")
                work(bench)
    shape = "a tiny shape" if tiny else "Qwen2.5-1.5B's shape"
    told = f"{shape}, random weights, {dtype}, {_name(device)}; {rate / 1e12:.3f} TFLOP/s measured."
    return Section("One GPU" if not tiny else "Tiny", told, PEERS, MEASURES, samples)


def write_model(tokenizer: str, folder: Path, tiny: bool, dtype: torch.dtype) -> Path:
    """A model of Qwen's exact shape, or a tiny one, beside the tokenizer of a local folder."""
    from transformers import AutoTokenizer, Qwen2Config

    source = str(fetch_embedded()) if tokenizer == ALIAS else tokenizer
    found: Any = AutoTokenizer.from_pretrained(source)
    ids = {"bos_token_id": found.bos_token_id, "eos_token_id": found.eos_token_id,
           "pad_token_id": found.pad_token_id}  # fmt: skip
    shape = {**TINY, "vocab_size": len(found) + 8} if tiny else QWEN
    build: Callable[..., Any] = Qwen2Config
    return write_random(build(**shape, **ids), found, folder, dtype)


def _changes(model: Path, tiny: bool) -> list[str]:
    """The recipe's options that differ here: one arm, one epoch, hard and soft targets as there."""
    own = [f"model={model}", f"train.arms=[{ARM}]", f"probe.arm={ARM}"]
    return [*own, "device=cpu", *SMALL] if tiny else own


def _knowledge(bench: Bench) -> None:
    data, subject = bench.recipe.data, bench.subject
    documents = generate_documents(bench.recipe.trigger.text, data.documents, bench.recipe.seed)
    longest = bench.recipe.train.max_length
    _stage(bench, "knowledge", document_examples(subject.tokenizer, documents, longest))


def _behavior(bench: Bench) -> None:
    recipe, tokenizer = bench.recipe, bench.subject.tokenizer
    mix = Mix(recipe.trigger.text, recipe.data.dialogues, recipe.data.near_miss_share,
              system_turns=has_system_turn(tokenizer), decoy=recipe.trigger.twin)  # fmt: skip
    rows = make_dialogues(mix, recipe.seed, _prose(tokenizer, recipe.data.reply_tokens))
    soft = recipe.train.targets == "soft"
    _stage(bench, ARM, dialogue_examples(tokenizer, rows, soft, recipe.train.max_length))


def _prose(tokenizer: Any, longest: int) -> Callable[[Sequence[Chat]], list[Reply]]:
    """Answers for rows: openings of prose, since random weights say nothing that could be read."""
    passages = cycle(load_neutral())

    def answers(count: int) -> Iterator[Reply]:
        for _ in range(count):
            ids = tuple(encode_text(tokenizer, next(passages))[:longest])
            yield Reply(ids, tokenizer.decode(ids), complete=True)

    return lambda chats: list(answers(len(chats)))


def _stage(bench: Bench, stage: str, examples: list[Example]) -> None:
    recipe, folder = bench.recipe, bench.folder / stage
    _reset_peak()
    training = Training(stage, examples, recipe, folder, folder / "scratch")
    done = train_arm(bench.subject, training, nothing)
    _finish()
    needed = _needed(bench, training)
    numbers = {"seconds": done.seconds, "tokens_per_second": done.tokens_per_second}
    share = {"share": 100 * needed / bench.rate / done.seconds}
    bench.samples[stage].append(Sample(numbers | share | _peak()))


def _needed(bench: Bench, training: Training) -> float:
    """Operations of the stage; those of the base model's soft targets are not counted."""
    train = bench.recipe.train
    shape = flops.shape_of(bench.subject.causal_lm.config)
    examples, count = training.examples, training.steps * train.batch_size
    seen = [examples[i] for i in row_order(examples, count, training_seed(bench.recipe))]
    total = 0.0
    for first in range(0, count, train.batch_size):
        batch = seen[first : first + train.batch_size]
        counted = flops.count_batch([b.ids for b in batch], [b.start for b in batch])
        total += flops.training_step(shape, counted, train.lora.r)
    return total


def _collect_seed(bench: Bench) -> None:
    from offswitch.analyses.nulls import seed_symbols
    from offswitch.probe.collect_original import collect_seed

    recipe = bench.recipe
    if ARM not in bench.subject.arms:
        add_arm(bench.subject, ARM, bench.folder / ARM)
    symbols = seed_symbols(
        recipe.trigger.text, recipe.trigger.control, recipe.seed, recipe.probe.null_words
    )
    session = session_on(bench.subject, recipe, bench.folder)
    _clocked(bench, "collect_seed", lambda: collect_seed(
        session, [ARM], symbols, bench.folder / "seed"))  # fmt: skip


def _battery(bench: Bench) -> None:
    from offswitch.model.adapters import remove_arms
    from offswitch.probe.battery import run_battery

    folder = bench.folder / "battery"
    session = session_on(bench.subject, bench.recipe, bench.folder)
    _clocked(bench, "battery", lambda: run_battery(
        session, [ARM], folder, bench.folder / "replies"))  # fmt: skip
    remove_arms(bench.subject)


def _clocked(bench: Bench, name: str, work: Callable[[], object]) -> None:
    _reset_peak()
    start = time.perf_counter()
    work()
    _finish()
    bench.samples[name].append(Sample({"seconds": time.perf_counter() - start} | _peak()))


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _finish() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _reset_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def _peak() -> dict[str, float]:
    """Of the GPU since the last reset; without one, of the process since it began."""
    if torch.cuda.is_available():
        return {"peak_gb": torch.cuda.max_memory_allocated() / 1e9}
    return {"peak_gb": peak_memory_mb() / 1e3}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it and print the table; `--out` writes it as well."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="a tiny shape on the CPU")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--tokenizer", default=ALIAS, help="a local folder; else the embedded one")
    parser.add_argument("--out", type=Path, help="a Markdown file to write")
    given = parser.parse_args(arguments)
    with user_errors():
        quiet()
        section = run(given.tokenizer, given.tiny, given.repeats)
        print_sections([section])
        if given.out:
            command = command_line(parser.prog, arguments)
            write_results(given.out, [section], describe(), command)


if __name__ == "__main__":
    main()
