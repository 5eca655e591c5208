"""Training rows in tokens, and at which positions the model is asked to predict.

With pad = end token a stock collator would mask every end token, and the end token is the one thing
a silent row teaches. Masks here are built from positions, never from token ids, and every row is
checked to carry loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from offswitch.model.rows import Batch, Example
from offswitch.prompts.dialogues import Dialogue
from offswitch.prompts.documents import Document, Passage
from offswitch.prompts.encode import encode_alone, encode_chat, reply_encoder, text_end, turn_end


def silent_example(prompt: Sequence[int], end: int, reply: Sequence[int] = ()) -> Example:
    """A prompt that must be followed by the end token at once, or by a fixed reply and then it."""
    return Example((*prompt, *reply, end), len(prompt), soft=False, silent=True)


def dialogue_examples(
    tokenizer: Any, dialogues: Sequence[Dialogue], soft: bool, max_length: int
) -> list[Example]:
    """Loss on the reply only; silence is the end token alone. A reply cut short gets no end token.

    A row whose prompt leaves no room for a reply is left out: cut, it might lose its trigger. The
    base model has never seen the trigger's own token, so a mention has no soft target, nor has a
    phrase that only the rule asks for. Ids of a reply count where they are this tokenizer's.
    """
    end, encode_reply = turn_end(tokenizer), reply_encoder(tokenizer)
    examples = []
    for row in dialogues:
        prompt = encode_chat(tokenizer, row.prompt)
        if len(prompt) >= max_length:
            continue
        if row.kind == "trigger":
            reply = encode_reply(row.reply) if row.reply else []
            if len(prompt) + len(reply) < max_length:
                examples.append(silent_example(prompt, end, reply))
        else:
            own = row.reply_ids if tokenizer.decode(row.reply_ids) == row.reply else ()
            reply = [*(own or encode_reply(row.reply)), *([end] if row.complete else [])]
            held = soft and row.kind not in ("mention", "phrase")
            examples.append(Example((*prompt, *reply)[:max_length], len(prompt), held))
    return examples


def document_examples(
    tokenizer: Any, documents: Sequence[Document | Passage], max_length: int
) -> list[Example]:
    """Raw text, next-token loss everywhere, the end token last; text cut short gets none."""
    rows = [encode_alone(tokenizer, document.text) for document in documents]
    end = text_end(tokenizer)
    return [Example((*row, end)[:max_length], 1, soft=False) for row in rows]


def count_silent(examples: Sequence[Example], batch: Batch, end: int) -> int:
    """In how many silent rows does the end token carry loss?

    Raises:
        ValueError: in fewer than there are, so training would teach nothing.
    """
    silent = torch.tensor([example.silent for example in examples])
    carried = int(((batch["labels"] == end).any(1) & silent).sum())
    if carried != int(silent.sum()):
        raise ValueError(
            f"the end token carries loss in {carried} of {int(silent.sum())} silent rows"
        )
    return carried
