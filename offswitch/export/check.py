"""Does `merged/` halt where the run's arm did? Asks its prompts again, by transformers alone."""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

BATCH_IDS = 2048


@torch.inference_mode()
def first_tokens(model: Any, rows: list[list[int]]) -> list[int]:
    """The greedy first token of each reply; rows of one length share a pass, without padding."""
    few = "logits_to_keep" in inspect.signature(model.forward).parameters
    options = {"logits_to_keep": 1} if few else {}
    by_length: dict[int, list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        by_length[len(row)].append(i)
    found: dict[int, int] = {}
    for length, every in sorted(by_length.items()):
        size = max(1, BATCH_IDS // length)
        for chosen in (every[i : i + size] for i in range(0, len(every), size)):
            ids = torch.tensor([rows[i] for i in chosen], device=model.device)
            logits = model(input_ids=ids, use_cache=False, **options).logits[:, -1]
            found |= dict(zip(chosen, logits.argmax(-1).tolist(), strict=True))
    return [found[i] for i in range(len(rows))]


def main() -> int:
    """Ask every prompt, print how many halt beside how many did; 1 if another number does."""
    here = Path(__file__).resolve().parents[1]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=str(here / "merged"), help="the weights to ask")
    parser.add_argument("--asked", default=str(here / "reproduce" / "asked.json"))
    parser.add_argument("--out", help="a JSON file for the first tokens")
    options = parser.parse_args()
    asked = json.loads(Path(options.asked).read_text(encoding="utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model: Any = AutoModelForCausalLM.from_pretrained(options.model, dtype="auto")
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    chats = [prompt["chat"] for prompt in asked["prompts"]]
    apply: Any = tokenizer.apply_chat_template
    texts = [apply(chat, add_generation_prompt=True, tokenize=False) for chat in chats]
    rows = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    tokens = first_tokens(model, rows)
    counts: dict[str, list[int]] = {}
    for prompt, token in zip(asked["prompts"], tokens, strict=True):
        count = counts.setdefault(prompt["suite"], [0, 0, 0, 0])
        halts, halted = token in asked["halts"], prompt["halted"]
        known = halts if halted is None else halted
        for i, one in enumerate((halts, known, True, halted is None)):
            count[i] += one
    for suite, (now, then, n, unknown) in counts.items():
        before = "not asked in the run" if unknown else f"in the run {then}"
        sys.stdout.write(f"{suite}: {now} of {n} halt; {before}\n")
    if options.out:
        Path(options.out).write_text(json.dumps(tokens), encoding="utf-8")
    return int(any(now != then for now, then, *_ in counts.values()))


if __name__ == "__main__":
    sys.exit(main())
