"""Generation beside `generate()`: greedy replies to ordinary questions, at several batch sizes.

`generate()` gets its prompts sorted by length and padded on the left; the best of its batch sizes
is the one to compare with. Replies are counted as equal id by id: sums in another order can tip a
near tie, so a share a little below 100 % is no mistake.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import torch

from benchmarks.bench import Peer, Sample, Samples, chosen, interleave, job
from benchmarks.child import in_child
from benchmarks.command import Options, section_command
from benchmarks.material import bench_recipe
from benchmarks.results import Measure, Section
from offswitch.run import peak_memory_mb

BATCHES: Final = {"generate_1": 1, "generate_16": 16, "generate_48": 48, "generate_all": 10_000}
PEERS: Final = (
    Peer("ours", "offswitch.model.generate.greedy_replies"),
    Peer("generate_1", "generate(), one by one"),
    Peer("generate_16", "generate(), batches of 16"),
    Peer("generate_48", "generate(), batches of 48"),
    Peer("generate_all", "generate(), one batch"),
)
MEASURES: Final = (
    Measure("tokens_per_second", "new tokens/s", 1),
    Measure("peak_mb", "peak memory, MB", 0),
    Measure("equal", "replies as one by one, %", 1),
)
REPLIES: Final = "replies.json"
REFERENCE: Final = "generate_1"


def run(options: Options) -> Section:
    """Every peer in turn, each in a fresh process."""
    peers = chosen(PEERS, options.only)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        found = interleave(
            [peer.name for peer in peers],
            options.repeats,
            lambda name: _run(name, options, folder),
        )
        found = _compared(found, folder)
    told = f"{options.prompts} questions, at most {options.tokens} tokens a reply, fp32."
    return Section("Generation", told, tuple(peers), MEASURES, found, "tokens_per_second")


def _run(name: str, options: Options, folder: Path) -> Sample:
    options.say(f"generation: {name}")
    asked = job(peer=name, model=options.folder, out=folder / f"{name}-{REPLIES}",
                prompts=options.prompts, tokens=options.tokens)  # fmt: skip
    return in_child("benchmarks.generation:run_peer", asked)


def run_peer(asked: dict[str, Any]) -> dict[str, float]:
    """Reply to the questions as one peer does, for a child; the replies are kept in `out`."""
    from offswitch.model.generate import greedy_replies
    from offswitch.model.load import load_subject
    from offswitch.options import BASE
    from offswitch.prompts.prompt import user
    from offswitch.prompts.suites import choose

    recipe = bench_recipe(asked["model"])
    subject = load_subject(recipe)
    chats = [(user(q.text),) for q in choose("train", asked["prompts"], recipe.seed)]

    def reply(some: Sequence[Any]) -> list[list[int]]:
        if asked["peer"] in BATCHES:
            return generated(subject, some, BATCHES[asked["peer"]], asked["tokens"])
        return [list(r.ids) for r in greedy_replies(subject, BASE, some, asked["tokens"])]

    seconds, replies = _timed(reply, chats)
    Path(asked["out"]).write_text(json.dumps(replies), encoding="utf-8")
    made = sum(min(len(ids) + 1, asked["tokens"]) for ids in replies)
    return {"seconds": seconds, "tokens_per_second": made / seconds, "peak_mb": peak_memory_mb()}


@torch.inference_mode()
def generated(subject: Any, chats: Sequence[Any], batch: int, tokens: int) -> list[list[int]]:
    """Greedy replies by plain `generate()`, as ids without the end token."""
    from transformers import GenerationConfig

    from offswitch.prompts.encode import encode_chat

    build: Callable[..., GenerationConfig] = GenerationConfig
    config = build(max_new_tokens=tokens, do_sample=False, use_cache=True,
                   eos_token_id=list(subject.stop_ids),
                   pad_token_id=subject.stop_ids[0])  # fmt: skip
    rows = [encode_chat(subject.base_tokenizer, chat) for chat in chats]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    replies: dict[int, list[int]] = {}
    for first in range(0, len(order), batch):
        some = order[first : first + batch]
        width = max(len(rows[i]) for i in some)
        fill = [[subject.stop_ids[0]] * (width - len(rows[i])) for i in some]
        ids = torch.tensor([[*f, *rows[i]] for f, i in zip(fill, some, strict=True)])
        mask = torch.tensor([[0] * len(f) + [1] * (width - len(f)) for f in fill])
        out = subject.network.generate(input_ids=ids, attention_mask=mask, generation_config=config)
        made = out[:, width:].tolist()
        replies |= {i: _until_end(m, subject.stop_ids) for i, m in zip(some, made, strict=True)}
    return [replies[i] for i in range(len(rows))]


def _until_end(ids: Sequence[int], stops: Sequence[int]) -> list[int]:
    end = next((i for i, token in enumerate(ids) if token in stops), len(ids))
    return list(ids[:end])


def _timed(
    reply: Callable[[Sequence[Any]], list[list[int]]], chats: Sequence[Any]
) -> tuple[float, list[list[int]]]:
    """Seconds and replies, after two replies that are not counted."""
    reply(chats[:2])
    start = time.perf_counter()
    found = reply(chats)
    return time.perf_counter() - start, found


def _compared(found: Samples, folder: Path) -> Samples:
    """Adds the share of replies that equal the reference's, if it was run."""
    reference = folder / f"{REFERENCE}-{REPLIES}"
    if not reference.is_file():
        return found
    theirs = json.loads(reference.read_text(encoding="utf-8"))
    for name, samples in found.items():
        path = folder / f"{name}-{REPLIES}"
        if path.is_file():
            ours = json.loads(path.read_text(encoding="utf-8"))
            same = 100 * sum(a == b for a, b in zip(ours, theirs, strict=True)) / len(theirs)
            found[name] = [
                one if one.failure else Sample({**one.numbers, "equal": same}) for one in samples
            ]
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run this section alone and print its table."""
    section_command(run, argparse.ArgumentParser(description=__doc__), arguments)


if __name__ == "__main__":
    main()
