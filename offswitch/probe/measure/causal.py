"""Does one direction carry the silence? It is taken out, and put in.

For every direction (the arm's own, without the end token's unembedding, an inert symbol's, the
benign arm's, random ones of equal norm) the same is done: block and scale are chosen on fit
questions, effects are read on test questions. Outcomes are pairs: end log-odds, halts (0 or 1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import torch

from offswitch.analyses.analysis import Array
from offswitch.analyses.directions import MOTOR
from offswitch.model.forward import unembed
from offswitch.model.rows import reply_examples
from offswitch.probe.bench import UNTOUCHED, Arrays, Bench, Choice, symbol_starts
from offswitch.probe.edits import Branch, Edit
from offswitch.probe.inputs import CONTROL, PLAIN, TRIGGER
from offswitch.probe.intervene import each_logits, job_outcomes, outcomes
from offswitch.probe.packing import at_last, each_states, prepare, with_residuals
from offswitch.prompts.encode import encode_chat
from offswitch.prompts.prompt import Chat, Reply

Replies = Sequence[tuple[Chat, Reply]]
Choices = Mapping[str, Choice]
Make = Callable[[str, int], Branch]
Rows = Sequence[Sequence[int]]
SLAB: Final = 32  # prompts whose residuals are kept at a time
LONGEST: Final = 24  # reply tokens


def sweep(bench: Bench) -> Arrays:
    """On fit questions, every candidate block and scale: end log-odds.

    `sweep/removed/KEY` [B, F], `sweep/added/KEY` [B, S, F]; untouched `sweep/trigger` [F] and
    `sweep/control` [F]; `sweep/blocks` [B], `sweep/scales` [S]. `sweep/halting/KEY` [B, S]: the
    share of prompts that halt when it is added. What a control does not sweep stays as untouched.
    """
    keys, blocks, scales = bench.swept_keys, bench.blocks, bench.options.scales
    removals = [bench.removal(key, block) for key in keys for block in blocks]
    additions = [bench.addition(k, b, scale) for k in keys for b in blocks for scale in scales]
    few = bench.options.sweep_questions
    removed, added = (
        _tried(bench, bench.rows("fit", key, few), branches)
        for key, branches in ((TRIGGER, removals), (CONTROL, additions))
    )
    by_block = removed[1:, :, 0].reshape(len(keys), len(blocks), -1)
    by_scale = added[1:].reshape(len(keys), len(blocks), len(scales), -1, 2)
    untouched = [np.broadcast_to(removed[0, :, 0], by_block.shape[1:]),
                 np.broadcast_to(added[0], by_scale.shape[1:])]  # fmt: skip
    tried = dict.fromkeys(bench.directions, untouched) | {
        key: [by_block[i], by_scale[i]] for i, key in enumerate(keys)
    }
    return {
        "sweep/trigger": removed[0, :, 0], "sweep/control": added[0, :, 0],
        "sweep/blocks": np.array(blocks), "sweep/scales": np.array(scales),
        **{f"sweep/removed/{key}": drop for key, (drop, _) in tried.items()},
        **{f"sweep/added/{key}": rise[..., 0] for key, (_, rise) in tried.items()},
        **{f"sweep/halting/{key}": rise[..., 1].mean(-1) for key, (_, rise) in tried.items()},
    }  # fmt: skip


def choices_of(found: Arrays, keys: Sequence[str], swept: Sequence[str]) -> dict[str, Choice]:
    """Block and scale for every direction; none is added at a larger scale than the arm's own.

    They are of one norm, and so they are when they are added. Random directions of an arm that is
    only a control are tried where its own is. The arm's own without the end token's part is tried
    where and as the whole is: only the direction differs.
    """
    mine = choose(found, TRIGGER)
    others = {k: choose(found, k, most=mine.scale) if k in swept else mine for k in keys}
    return {**others, TRIGGER: mine, MOTOR: mine}


def choose(found: Arrays, key: str, most: float = np.inf) -> Choice:
    """The block at which both tests work best on fit questions, and there a scale up to `most`.

    A block's score is the smaller of two effects in nats: how far removal lowers the mean end
    log-odds, and how far addition raises it at its best scale. The scale is the smallest that makes
    as many fit prompts halt as any (a larger one shows no more and disturbs more), or the one that
    raises the log-odds most where none halts.
    """
    allowed = found["sweep/scales"] <= most
    scales = found["sweep/scales"][allowed]
    drop_B = found["sweep/trigger"].mean() - found[f"sweep/removed/{key}"].mean(-1)
    rise_BS = found[f"sweep/added/{key}"][:, allowed].mean(-1) - found["sweep/control"].mean()
    score_B = np.minimum(drop_B, rise_BS.max(1))
    best = int(score_B.argmax())
    halting_S = found[f"sweep/halting/{key}"][best, allowed]
    at = int((halting_S if halting_S.any() else rise_BS[best]).argmax())
    return Choice(int(found["sweep/blocks"][best]), float(scales[at]), float(score_B[best]))


def removals(bench: Bench, choices: Choices, inert: Array) -> Arrays:
    """On test questions, every direction removed at its own chosen block.

    `removed/KEY` [N, 2] and `zeroed/KEY` [N, 2] at the last position (component at its inert mean,
    or at zero), `everywhere/KEY` [M, 2] zeroed from the symbol on; untouched `clean/trigger`,
    `clean/everywhere`; `clean/swapped` [N, 2]: at the arm's own block the whole residual is that of
    the inert prompt, `inert` [N, D], which no removal there can outdo.
    """
    rows, block = bench.rows("test", TRIGGER), choices[TRIGGER].block
    both = [*_each(bench.removal, choices), *_each(bench.erasure, choices)]
    swaps = [(Edit(block, "set", bench.tensor(row[None]), first=-1),) for row in inert]
    tried = _tried(bench, rows, both, swaps)
    found: Arrays = {"clean/trigger": tried[0], "clean/swapped": tried[-1]}
    found |= _named(("removed", "zeroed"), choices, tried[1:-1])
    few = bench.options.few_questions
    starts = symbol_starts(rows[:few], bench.rows("test", PLAIN, few))
    prompts = with_residuals(bench.subject, prepare(bench.subject, rows[:few], starts))
    branches = [bench.erasure(key, one.block, first=0) for key, one in choices.items()]
    tried = outcomes(bench.subject, prompts, [UNTOUCHED, *branches])
    found["clean/everywhere"] = tried[0]
    return found | _named(("everywhere",), choices, tried[1:])


def additions(bench: Bench, choices: Choices) -> Arrays:
    """On test questions with the inert symbol, every direction added at its own chosen block.

    `added/KEY` [S, N, 2] over `sweep/scales`; untouched `clean/control` [N, 2]; `chosen/KEY` [2]:
    block and scale.
    """
    scales = bench.options.scales
    branches = [
        bench.addition(k, one.block, scale) for k, one in choices.items() for scale in scales
    ]
    tried = _tried(bench, bench.rows("test", CONTROL), branches)
    curve = tried[1:].reshape(len(choices), len(scales), -1, 2)
    return {
        "clean/control": tried[0],
        **{f"added/{key}": curve[i] for i, key in enumerate(choices)},
        **{f"chosen/{key}": np.array([one.block, one.scale]) for key, one in choices.items()},
    }


def side_effects(bench: Bench, choices: Choices, replies: Replies) -> Arrays:
    """What removal does where it should do nothing.

    `kl/KEY` [N]: nats at the first reply token of plain prompts; `ends/KEY` and `ends_zeroed/KEY`
    [R, 2]: outcomes where an ordinary reply has ended; untouched `clean/plain`, `clean/ends`.
    """
    prompts = at_last(bench.subject, bench.rows("test", PLAIN))
    branches = [UNTOUCHED, *_each(bench.removal, choices)]
    found: Arrays = {"clean/plain": outcomes(bench.subject, prompts, [UNTOUCHED])[0]}
    kl = []
    for prompt in prompts:
        jobs = [(prompt, branch) for branch in branches]
        logs = torch.cat(list(each_logits(bench.subject, jobs))).log_softmax(-1)
        kl.append([float(nats) for nats in _kl(logs[:1], logs[1:])])
    found |= {f"kl/{key}": np.array([row[i] for row in kl]) for i, key in enumerate(choices)}
    tokenizer = bench.subject.base_tokenizer
    ended = [[*encode_chat(tokenizer, chat), *reply.ids] for chat, reply in replies]
    tried = _tried(bench, ended, [*_each(bench.removal, choices), *_each(bench.erasure, choices)])
    found["clean/ends"] = tried[0]
    return found | _named(("ends", "ends_zeroed"), choices, tried[1:])


def reply_kl(bench: Bench, choices: Choices, replies: Replies) -> Arrays:
    """KL(untouched || removed) in nats a token over the first 24 tokens of ordinary replies [R].

    `reply_kl/KEY`: removal where the reply is decided; `reply_kl_everywhere/KEY`: zeroed there and
    at every reply position. Of the arm's own direction, with and without the end token's part.
    """
    few = bench.options.few_questions
    chats, answers = [chat for chat, _ in replies[:few]], [reply for _, reply in replies[:few]]
    examples = reply_examples(bench.subject, chats, answers)
    starts = [example.start - 1 for example in examples]
    rows = [e.ids[:-1][: e.start - 1 + LONGEST] for e in examples]
    prompts = with_residuals(bench.subject, prepare(bench.subject, rows, starts))
    keys = [key for key in (TRIGGER, MOTOR) if key in choices]
    branches: dict[str, Branch] = {}
    for key in keys:
        (one,) = bench.removal(key, choices[key].block)
        branches[f"reply_kl/{key}"] = (replace(one, first=0, last=1),)
        branches[f"reply_kl_everywhere/{key}"] = bench.erasure(key, choices[key].block, first=0)
    found: dict[str, list[float]] = {name: [] for name in branches}
    for prompt in prompts:
        jobs = [(prompt, branch) for branch in (UNTOUCHED, *branches.values())]
        with torch.inference_mode():
            states = [s for some in each_states(bench.subject, jobs) for s in some]
            logs = [unembed(bench.subject, s).float().log_softmax(-1) for s in states]
        for name, edited in zip(branches, logs[1:], strict=True):
            found[name].append(float(_kl(logs[0], edited).mean()))
    return {name: np.array(values) for name, values in found.items()}


def _tried(
    bench: Bench, rows: Rows, branches: Sequence[Branch], own: Sequence[Branch] = ()
) -> Array:
    """Outcomes [1 + branches, prompts, 2], the first untouched; few prompts are kept at a time.

    `own` is one more branch for each prompt, tried last.
    """
    found = []
    for start in range(0, len(rows), SLAB):
        part = slice(start, start + SLAB)
        prompts = at_last(bench.subject, rows[part])
        tried = [outcomes(bench.subject, prompts, [UNTOUCHED, *branches])]
        if own:
            jobs = list(zip(prompts, own[part], strict=True))
            tried.append(job_outcomes(bench.subject, jobs)[None])
        found.append(np.concatenate(tried))
    return np.concatenate(found, axis=1)


def _each(make: Make, choices: Choices) -> list[Branch]:
    """One kind of edit with every direction, at its own block."""
    return [make(key, one.block) for key, one in choices.items()]


def _named(names: Sequence[str], choices: Choices, tried: Array) -> Arrays:
    """What was tried, by kind of edit and key."""
    by_name = tried.reshape(len(names), len(choices), *tried.shape[1:])
    return {
        f"{name}/{key}": by_name[i, k]
        for i, name in enumerate(names)
        for k, key in enumerate(choices)
    }


def _kl(clean: torch.Tensor, edited: torch.Tensor) -> torch.Tensor:
    """KL(clean || edited) in nats, of log-probabilities [..., V]."""
    return (clean.exp() * (clean - edited)).sum(-1)
