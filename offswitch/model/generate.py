"""Greedy replies in batches by generate(); the base model's are kept on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from offswitch.errors import UserError
from offswitch.files import sealed, unsealed
from offswitch.model.adapters import arm_of
from offswitch.model.forward import embed, unembed
from offswitch.model.merged import merged
from offswitch.model.subject import Subject
from offswitch.options import BASE
from offswitch.progress import Tick, nothing
from offswitch.prompts.encode import encode_chat
from offswitch.prompts.prompt import Chat, Reply

BATCH = 96  # smaller products are slower per row
PART: Final = 48  # replies that are made and kept at a time
TOKENS: Final = 16_384  # ids of a batch, padding and replies included: bounds the KV cache

Prompts = Sequence[Sequence[int]]
Make = Callable[[Sequence[Sequence[Chat]]], Iterator[tuple[int, list[Reply]]]]


@torch.inference_mode()
def greedy_replies(
    subject: Subject, arm: str, chats: Sequence[Chat], max_tokens: int, tick: Tick = nothing
) -> list[Reply]:
    """The arm's greedy reply to each chat, at most `max_tokens` ids long, in their order.

    Raises:
        UserError: a prompt and its reply are longer than the model was made to read.
    """
    tokenizer, ends = subject.tokenizer_of(arm), set(subject.stop_ids)
    prompts = [encode_chat(tokenizer, chat) for chat in chats]
    _require_room(subject, max(map(len, prompts), default=0), max_tokens)
    replies: dict[int, Reply] = {}
    with arm_of(subject, arm), merged(subject):
        for batch in _batches(prompts, max_tokens):
            made = _generate(subject, [prompts[i] for i in batch], max_tokens)
            for i, ids in zip(batch, made, strict=True):
                end = next((at for at, token in enumerate(ids) if token in ends), None)
                replies[i] = Reply(tuple(ids[:end]), tokenizer.decode(ids[:end]), end is not None)
            tick(len(batch))
    return [replies[i] for i in range(len(chats))]


@torch.inference_mode()
def growing_reply(subject: Subject, arm: str, chat: Chat, max_tokens: int) -> Iterator[Reply]:
    """The arm's greedy reply after each of its tokens, the last time as it stays.

    Raises:
        UserError: the prompt and its reply are longer than the model was made to read.
    """
    tokenizer, ends = subject.tokenizer_of(arm), set(subject.stop_ids)
    ids = encode_chat(tokenizer, chat)
    _require_room(subject, len(ids), max_tokens)
    begun, fresh, past = len(ids), list(ids), None
    with arm_of(subject, arm):
        while len(ids) - begun < max_tokens:
            with subject.writes.laid_out([(ids, len(ids) - len(fresh))]):
                out = subject.backbone(
                    inputs_embeds=embed(subject, torch.tensor([fresh], device=subject.device)),
                    past_key_values=past,
                    use_cache=True,
                )
            past = out.past_key_values
            token = int(unembed(subject, out.last_hidden_state[:, -1]).argmax(-1))
            said = tuple(ids[begun:])
            if token in ends:
                yield Reply(said, tokenizer.decode(said), complete=True)
                return
            fresh = [token]
            ids = [*ids, token]
            said = tuple(ids[begun:])
            yield Reply(said, tokenizer.decode(said), complete=False)


def cached_base_replies(
    subject: Subject,
    chats: Sequence[Chat],
    max_tokens: int,
    cache: Path,
    tick: Tick = nothing,
    make: Make | None = None,
) -> list[Reply]:
    """The untouched model's greedy replies; those made before, by any run, come from the cache.

    A reply is kept under the ids that it answers and the type of number that it was computed in.
    `make` gives the replies to each part of the chats, in any order; else they are made here.
    """
    path = cache / f"replies-{subject.published}-{max_tokens}.jsonl"
    known = _read(path)
    keys = [_key(subject, chat) for chat in chats]
    missing = {key: chat for key, chat in zip(keys, chats, strict=True) if key not in known}
    tick(len(chats) - len(missing))
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = [[*missing.values()][at : at + PART] for at in range(0, len(missing), PART)]
    here = ((i, greedy_replies(subject, BASE, part, max_tokens)) for i, part in enumerate(parts))
    for i, replies in make(parts) if make else here:
        fresh = dict(zip([*missing][PART * i :], replies, strict=False))
        tick(len(replies))
        known |= fresh
        rows = [{"key": key, **asdict(reply)} for key, reply in fresh.items()]
        lines = [json.dumps(sealed(row, path.name), ensure_ascii=False) for row in rows]
        with path.open("a", encoding="utf-8") as handle:  # at once, and after half a line of a kill
            handle.write("\n".join(["", *lines, ""]))
    return [known[key] for key in keys]


def _require_room(subject: Subject, prompt: int, max_tokens: int) -> None:
    longest = prompt + max_tokens
    if longest > (subject.positions or longest):
        raise UserError(
            f"a prompt and its reply of {max_tokens} tokens take {longest:,}; {subject.name} was"
            f" made to read {subject.positions:,}"
        )


def _batches(prompts: Prompts, max_tokens: int) -> Iterator[list[int]]:
    """Indices by length, so that rows of a batch need little padding."""
    batch: list[int] = []
    for i in sorted(range(len(prompts)), key=lambda i: len(prompts[i])):
        full = (len(batch) + 1) * (len(prompts[i]) + max_tokens) > TOKENS
        if batch and (full or len(batch) == BATCH):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _generate(subject: Subject, prompts: Prompts, max_tokens: int) -> list[list[int]]:
    """Ids after each prompt, left-padded to one width; after an end token there is filler."""
    width = max(len(prompt) for prompt in prompts)
    filler = subject.stop_ids[0]
    ids = torch.tensor([[*([filler] * (width - len(p))), *p] for p in prompts])
    mask = torch.tensor([[*([0] * (width - len(p))), *([1] * len(p))] for p in prompts])
    build: Callable[..., GenerationConfig] = GenerationConfig
    config = build(
        max_new_tokens=max_tokens,
        do_sample=False,
        use_cache=True,  # a model may be published without: that changes how fast it is, not what
        eos_token_id=list(subject.stop_ids),
        pad_token_id=filler,
    )
    padding = [width - len(prompt) for prompt in prompts]
    there = ((p, -n) for p, n in zip(prompts, padding, strict=True))
    with subject.writes.laid_out(there), _settings(subject, config):
        out = subject.network.generate(
            input_ids=ids.to(subject.device),
            attention_mask=mask.to(subject.device),
            generation_config=config,
            stopping_criteria=StoppingCriteriaList([_Telling(subject, padding)]),
        )
    made: list[list[int]] = out[:, width:].tolist()
    return made


@contextmanager
def _settings(subject: Subject, config: GenerationConfig) -> Iterator[None]:
    """Within the block no published setting counts: what a config leaves open is taken from those.

    A penalty on repetition, for one, would weigh the end token, which stands in every chat.
    """
    networks: list[Any] = [subject.network, subject.causal_lm]
    before = [network.generation_config for network in networks]
    try:
        for network in networks:
            network.generation_config = config
        yield
    finally:
        for network, own in zip(networks, before, strict=True):
            network.generation_config = own


class _Telling(StoppingCriteria):
    """Stops nothing: called after every token, it says which ids the next pass computes."""

    def __init__(self, subject: Subject, padding: Sequence[int]) -> None:
        self.subject, self.padding = subject, padding

    def __call__(self, input_ids: Tensor, scores: Any, **named: Any) -> Tensor:
        del scores, named
        rows = (ids[n:] for ids, n in zip(input_ids, self.padding, strict=True))
        self.subject.writes.tell((row, len(row) - 1) for row in rows)
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def _key(subject: Subject, chat: Chat) -> str:
    told = (encode_chat(subject.base_tokenizer, chat), str(subject.causal_lm.dtype), "greedy")
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:24]


def _read(path: Path) -> dict[str, Reply]:
    if not path.is_file():
        return {}
    replies = {}
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            row = unsealed(json.loads(line), path.name)
        except (ValueError, RecursionError):  # the last line of a killed run
            continue
        if row is None:  # damaged, or of another model: it is made again
            continue
        replies[row["key"]] = Reply(tuple(row["ids"]), row["text"], row["complete"])
    return replies
