"""Does the reply end before it begins? One forward pass a prompt, no generation.

Primary outcome: first-token end log-odds, log p - log(1 - p), p being the probability that the
first reply token ends the reply. A prompt *halts* when the greedy first token does. Known limit: a
model may be silent in other ways (white space, then the end); generated samples, in outcomes.py,
catch those.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from offswitch.model.adapters import arm_of
from offswitch.model.forward import hidden, unembed
from offswitch.model.merged import merged
from offswitch.model.prefix_tree import takes_trees, tree_states, trees
from offswitch.model.rows import by_length
from offswitch.model.subject import Subject
from offswitch.progress import Tick, nothing
from offswitch.prompts.encode import encode_chat, pad, shared_prefix
from offswitch.prompts.suites import Prompt


@dataclass(frozen=True)
class Score:
    """First-token end log-odds of one prompt, and whether its greedy first token ends the reply."""

    log_odds: float
    halts: bool


def score(
    subject: Subject, arm: str, prompts: Sequence[Prompt], batch_tokens: int, tick: Tick = nothing
) -> list[Score]:
    """First-token outcomes of an arm, in the order of the prompts."""
    tokenizer = subject.tokenizer_of(arm)
    rows = [encode_chat(tokenizer, prompt.chat) for prompt in prompts]
    scores: dict[int, Score] = {}
    with arm_of(subject, arm), merged(subject), torch.inference_mode():
        for chosen, logits in last_logits(subject, rows, batch_tokens):
            scores |= dict(zip(chosen, _scores(logits, subject.stop_ids), strict=True))
            tick(len(chosen))
    return [scores[i] for i in range(len(rows))]


def last_logits(
    subject: Subject, rows: Sequence[Sequence[int]], batch_tokens: int
) -> Iterator[tuple[list[int], Tensor]]:
    """Logits [b, V], float32, at the last position of some rows at a time, and which rows."""
    if takes_trees(subject):
        for tree in trees(rows, batch_tokens):
            states = tree_states(subject, tree)
            yield list(tree.rows), unembed(subject, states[tree.ends]).float()
        return
    for chosen in by_length(rows, batch_tokens):
        some = [rows[i] for i in chosen]
        prefix = shared_prefix(some)
        states = hidden(subject, torch.tensor(pad(some), device=subject.device), prefix)
        last = torch.tensor([len(row) - 1 - prefix for row in some], device=subject.device)
        at = torch.arange(len(some), device=subject.device)
        yield chosen, unembed(subject, states[at, last]).float()


def end_log_odds(logits: Tensor, stop_ids: Sequence[int]) -> Tensor:
    """Log-odds [...] that the next token is one of `stop_ids`; exact far into both tails."""
    stops = torch.tensor(list(stop_ids), device=logits.device)
    others = logits.index_fill(-1, stops, float("-inf"))
    return logits.index_select(-1, stops).logsumexp(-1) - others.logsumexp(-1)


def _scores(logits: Tensor, stop_ids: Sequence[int]) -> list[Score]:
    greedy = logits.argmax(-1).tolist()
    odds = end_log_odds(logits, stop_ids).tolist()
    return [Score(o, token in stop_ids) for o, token in zip(odds, greedy, strict=True)]
