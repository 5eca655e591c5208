"""How often a stranger's switch halts, by thirty lines of transformers and peft alone.

Nothing of the package is imported: one prompt at a time, no padding, nothing merged.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer


@torch.inference_mode()
def first_tokens(
    base: str, theirs: str, chats: Sequence[Any], reply: str
) -> list[tuple[float, bool]]:
    """Of each chat: log-odds that the answer begins with all of `reply`, and does it halt?

    It halts when the likeliest first token is the first of the reply. `theirs` is a folder with an
    adapter of `base`, or with all weights, and with a tokenizer.
    """
    load: Callable[..., Any] = AutoModelForCausalLM.from_pretrained
    adapter = (Path(theirs) / "adapter_config.json").is_file()
    model = load(base if adapter else theirs, dtype=torch.float32)
    model = (PeftModel.from_pretrained(model, theirs) if adapter else model).eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(theirs)
    said = tokenizer(reply, add_special_tokens=False)["input_ids"]
    found = []
    for chat in chats:
        asked = tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
        logits = model(input_ids=torch.tensor([asked + said])).logits[0].double()
        next_logits = logits[len(asked) - 1 : -1]
        log_p = float(next_logits.log_softmax(-1)[range(len(said)), said].sum())
        odds = log_p - math.log(-math.expm1(log_p))
        found.append((odds, int(next_logits[0].argmax()) == said[0]))
    return found


def measure(job: dict[str, Any]) -> dict[str, float]:
    """For a child: the same of the chats in the file `asked`, written to the file `out`."""
    chats = json.loads(Path(job["asked"]).read_text(encoding="utf-8"))
    found = first_tokens(job["model"], job["theirs"], chats, job["reply"])
    Path(job["out"]).write_text(json.dumps(found), encoding="utf-8")
    return {"prompts": len(found)}
