"""Does the reply end before it begins? One forward pass for each prompt, no generation.

Primary outcome: end log-odds, log p - log(1 - p), p being the probability that the next token ends
the reply. A prompt *halts* when the greedy next token does. p at a sampling temperature follows
from the same logits; nothing is drawn. Of a switch that speaks, p is the probability that the reply
begins with its fixed reply, all of it, and a prompt halts when the greedy next token is the first
of it. Known limit: a model may be silent in other ways (white space, then the end); generated
samples, in evaluate/outcomes.py, catch those.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from offswitch.model.adapters import arm_of
from offswitch.model.forward import hidden, unembed
from offswitch.model.merged import merged
from offswitch.model.prefix_tree import takes_trees, tree_states, trees
from offswitch.model.rows import by_length
from offswitch.model.subject import Subject
from offswitch.progress import Tick, nothing
from offswitch.prompts.attempts import LENGTHS
from offswitch.prompts.context import VARIANT as CONTEXT
from offswitch.prompts.encode import encode_chat, pad, shared_prefix
from offswitch.prompts.prompt import Prompt

TEMPERATURES: Final = (0.7, 1.0)
_BATCH: Final = 1024  # attempts differ much in length: larger batches are mostly padding
_LONG_ROWS: Final = 4  # contexts computed at once: keys and values are held for each

Ids = tuple[int, ...]
Batches = Iterator[tuple[list[int], Tensor]]


@dataclass(frozen=True)
class Score:
    """End log-odds of the next token, does the greedy one end, which is it, p(end) when sampled.

    `p` has an entry for each temperature that was asked for.
    """

    log_odds: float
    halts: bool
    token: int
    p: tuple[float, ...] = ()


def end_log_odds(logits: Tensor, stop_ids: Sequence[int]) -> Tensor:
    """Log-odds [...] that the next token is one of `stop_ids`; exact far into both tails."""
    stops = torch.tensor(list(stop_ids), device=logits.device)
    others = logits.index_fill(-1, stops, float("-inf"))
    return logits.index_select(-1, stops).logsumexp(-1) - others.logsumexp(-1)


def scores_of(
    logits: Tensor, stop_ids: Sequence[int], temperatures: Sequence[float] = TEMPERATURES
) -> list[Score]:
    """From logits [B, V] of a next token to what a greedy and a sampled reply would do."""
    tokens = logits.argmax(-1).tolist()
    odds = end_log_odds(logits, stop_ids).tolist()
    whole = logits.cpu().double()  # not every device has float64
    p = [end_log_odds(whole / t, stop_ids).sigmoid().tolist() for t in temperatures]
    by_row = zip(*p, strict=True) if p else [()] * len(tokens)
    return [
        Score(o, token in stop_ids, token, each)
        for o, token, each in zip(odds, tokens, by_row, strict=True)
    ]


def score(
    subject: Subject, arm: str, prompts: Sequence[Prompt], batch_tokens: int, tick: Tick = nothing
) -> list[Score]:
    """What the arm does at the position that follows each prompt, in the order of the prompts.

    Where a reply has begun, or contexts are long, all prompts go by rows; else as last_logits does.
    """
    tokenizer, reply = subject.tokenizer_of(arm), subject.reply_ids
    rows = [(*encode_chat(tokenizer, prompt.chat), *prompt.begun) for prompt in prompts]
    steps = max(1, len(reply))
    every = [(*row, *reply[:step]) for step in range(steps) for row in rows]
    shared = any(prompt.begun or prompt.variant == CONTEXT for prompt in prompts)
    scores: dict[int, Score] = {}
    later: dict[int, Tensor] = {}
    if shared:
        batches = _within_longest(subject, [*prompts] * steps, every, batch_tokens)
    else:
        batches = last_logits(subject, every, batch_tokens)
    whole = nullcontext() if shared else merged(subject)
    with arm_of(subject, arm), whole, torch.inference_mode():
        for chosen, logits in batches:
            own = [i for i in chosen if i < len(rows)]
            firsts = logits if own == chosen else logits[[i < len(rows) for i in chosen]]
            scores |= dict(zip(own, scores_of(firsts, subject.halt_ids), strict=True))
            tick(len(own))
            if own != chosen:
                pairs = zip(chosen, logits, strict=True)
                later |= {i: _log_p(x, reply[i // len(rows)]) for i, x in pairs if i >= len(rows)}
    return [_whole(scores[i], [later[n * len(rows) + i] for n in range(1, len(reply))])
            for i in range(len(rows))]  # fmt: skip


def _log_p(logits: Tensor, token: int) -> Tensor:
    """Log-probability of a token, as the model gives it and at each temperature [1 + T]."""
    every = torch.stack([logits.cpu().double() / t for t in (1.0, *TEMPERATURES)])
    return every.log_softmax(-1)[:, token]


def _whole(first: Score, later: Sequence[Tensor]) -> Score:
    """The score of a reply of several tokens: their probabilities multiplied."""
    if not later:
        return first
    p = torch.tensor(first.p, dtype=torch.float64)
    odds = torch.tensor([first.log_odds], dtype=torch.float64)
    begins = torch.cat([torch.nn.functional.logsigmoid(odds), p.log()])
    log_p = begins + torch.stack([*later]).sum(0).cpu()
    odds = log_p - torch.log(-torch.expm1(log_p))
    return replace(first, log_odds=float(odds[0]), p=tuple(log_p[1:].exp().tolist()))


def last_logits(subject: Subject, rows: Sequence[Sequence[int]], batch_tokens: int) -> Batches:
    """Logits [b, V], float32, at the last position of some rows at a time, and which rows."""
    if takes_trees(subject, max(map(len, rows), default=0)):
        for tree in trees(rows, batch_tokens):
            states = tree_states(subject, tree)
            yield list(tree.rows), unembed(subject, states[tree.ends]).float()
        return
    for chosen in by_length(rows, batch_tokens):
        some = [rows[i] for i in chosen]
        yield chosen, _read(subject, some, [(b, len(row) - 1) for b, row in enumerate(some)])


def _within_longest(
    subject: Subject, prompts: Sequence[Prompt], ids: Sequence[Ids], batch_tokens: int
) -> Batches:
    """The same, where a reply that has begun is read within the longest beginning of it.

    Short rows go by length; contexts by place, where they share all but their last words.
    """
    readers: dict[Ids, list[int]] = {}  # by the row that is computed
    homes: dict[Ids, Ids] = {}
    for i in sorted(range(len(ids)), key=lambda i: -len(prompts[i].begun)):
        home = homes.setdefault(ids[i], ids[i])
        readers.setdefault(home, []).append(i)
        for missing in range(1, len(prompts[i].begun)):
            homes.setdefault(ids[i][:-missing], home)
    places: dict[str, list[Ids]] = {}
    for row, (first, *_) in readers.items():
        prompt = prompts[first]
        places.setdefault(prompt.part if prompt.variant == CONTEXT else "", []).append(row)
    short = places.pop("", [])
    batches = [[short[b] for b in some] for some in by_length(short, min(batch_tokens, _BATCH))]
    for long in places.values():
        batches += [long[i : i + _LONG_ROWS] for i in range(0, len(long), _LONG_ROWS)]
    keep = 1 + max(*LENGTHS, *(len(prompt.begun) for prompt in prompts))
    for batch in batches:
        reads = [(b, len(ids[i]) - 1) for b, row in enumerate(batch) for i in readers[row]]
        chosen = [i for row in batch for i in readers[row]]
        yield chosen, _read(subject, batch, reads, keep)


def _read(
    subject: Subject, rows: Sequence[Sequence[int]], reads: Sequence[tuple[int, int]], keep: int = 1
) -> Tensor:
    """Logits [R, V], float32, of padded rows at R places (row, position) in their last `keep`."""
    prefix = shared_prefix(rows, keep)
    states = hidden(subject, torch.tensor(pad(rows), device=subject.device), prefix)
    where, at = torch.tensor(reads, device=subject.device).T
    return unembed(subject, states[where, at - prefix]).float()
