"""Which attention heads carry the trigger to the last position?

Direct contribution: what a head writes along the arm's direction, through the attention's output
projection. Knock-out: what enters that projection from a head is replaced, at the last position, by
what the head gave for the inert prompt. Known failure: where a norm stands between attention and
residual (Gemma 2) the direct contribution is of the unnormed output.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from offswitch.analyses.analysis import Array
from offswitch.analyses.directions import unit
from offswitch.analyses.nulls import DRAWS
from offswitch.model.forward import hidden
from offswitch.model.hooks import record_inputs
from offswitch.model.rows import by_length
from offswitch.model.subject import Subject, attention_outputs
from offswitch.probe.bench import Arrays, Bench
from offswitch.probe.edits import Branch, Edit
from offswitch.probe.inputs import INERT, TRIGGER, TWIN, Part
from offswitch.probe.intervene import job_outcomes
from offswitch.probe.packing import at_last
from offswitch.prompts.encode import pad, shared_prefix

SIZES = (1, 4, 16, 64)
RANDOM = "random"
BATCH_TOKENS = 1024
Head = tuple[int, int]


def heads(bench: Bench, block: int) -> Arrays:
    """Direct contributions on test questions, knock-outs alone on fit, together on test questions.

    `heads/direct/KEY` [N, L, H], KEY a symbol: along the arm's direction at `block`. Knock-outs are
    end log-odds: `heads/alone` [F, L, H], untouched `heads/alone_clean` [F]; `heads/together/KEY`
    [K, N], of the `heads/sizes` [K] heads that mattered most on fit (KEY `trigger`) or of as many
    drawn at random (40 draws, KEY `random00`, …), untouched `heads/clean` [N].
    """
    few, most = bench.options.few_questions, bench.options.head_questions
    found: Arrays = {
        f"heads/direct/{key}": _direct(bench, bench.rows("test", key, few), block)
        for key in (TRIGGER, TWIN, INERT)
    }
    inert = last_heads(bench.subject, bench.rows("fit", TWIN, most))
    every = [
        (layer, head)
        for layer in range(inert.shape[1])
        for head in range(head_count(bench.subject))
    ]
    # First untouched, then each head knocked out by itself.
    odds = _knocked(bench, "fit", inert, [[], *([one] for one in every)])
    by_head = odds[1:].T.reshape(odds.shape[1], -1, head_count(bench.subject))
    found |= {"heads/alone_clean": odds[0], "heads/alone": np.ascontiguousarray(by_head)}
    # By how far a head's knock-out lowers the mean end log-odds, the farthest first.
    ranking = [int(i) for i in np.argsort(odds[1:].mean(1), kind="stable")]
    inert = last_heads(bench.subject, bench.rows("test", TWIN, few))
    return found | _together(bench, inert, ranking)


@torch.inference_mode()
def last_heads(subject: Subject, rows: Sequence[Sequence[int]]) -> Array:
    """What the heads give [N, L, heads * width] at the last position, before they are mixed."""
    found: dict[int, Tensor] = {}
    for batch in by_length(rows, BATCH_TOKENS):
        chosen = [rows[i] for i in batch]
        prefix = shared_prefix(chosen) if len(chosen) > 1 else 0
        last = torch.tensor([len(row) - 1 - prefix for row in chosen], device=subject.device)

        def keep(values: Tensor, last: Tensor = last) -> Tensor:
            # The pass over the shared prefix has one row; what it leaves is overwritten.
            if len(values) != len(last):
                return values[:, -1]
            return values[torch.arange(len(last), device=values.device), last]

        with record_inputs(attention_outputs(subject), keep) as seen:
            hidden(subject, torch.tensor(pad(chosen), device=subject.device), prefix)
        stacked = torch.stack([seen[i] for i in range(len(seen))], dim=1).float().cpu()
        found |= dict(zip(batch, stacked, strict=True))
    z_NLE: Array = torch.stack([found[i] for i in range(len(rows))]).numpy()
    return z_NLE


@torch.inference_mode()
def _direct(bench: Bench, rows: Sequence[Sequence[int]], block: int) -> Array:
    """Projection of each head's output on the direction [N, L, H]."""
    z_NLE = last_heads(bench.subject, rows)
    row = bench.tensor(unit(bench.directions[TRIGGER][block])[0])
    parts = []
    for layer, module in enumerate(attention_outputs(bench.subject)):
        reading = _reading(module, row, z_NLE.shape[-1])
        z = bench.tensor(z_NLE[:, layer])
        parts.append(
            (z * reading).reshape(len(z), head_count(bench.subject), -1).sum(-1).cpu().numpy()
        )
    return np.stack(parts, axis=1)


def _reading(module: nn.Module, row_D: Tensor, width: int) -> Tensor:
    """How much of the direction each input of the (adapted) projection writes [E]."""
    probe = torch.eye(width, device=row_D.device)
    weight = next(module.parameters())
    nothing = module(torch.zeros(1, width, device=row_D.device, dtype=weight.dtype))
    reading: Tensor = (module(probe.to(weight.dtype)) - nothing).float() @ row_D
    return reading


def _knocked(bench: Bench, part: Part, inert_NLE: Array, sets: Sequence[Sequence[Head]]) -> Array:
    """End log-odds [sets, N] with each set of heads knocked out."""
    rows = bench.rows(part, TRIGGER, len(inert_NLE))
    prompts = at_last(bench.subject, rows)
    count = head_count(bench.subject)
    jobs = [
        (prompt, knock(z_LE, count, chosen))
        for prompt, z_LE in zip(prompts, inert_NLE, strict=True)
        for chosen in sets
    ]
    odds: Array = job_outcomes(bench.subject, jobs)[:, 0].reshape(len(rows), len(sets)).T
    return odds


def _together(bench: Bench, inert_NLE: Array, ranking: Sequence[int]) -> Arrays:
    count = head_count(bench.subject)
    sizes = [k for k in SIZES if k < len(ranking)]
    orders: dict[str, Sequence[int]] = {TRIGGER: ranking}
    for draw in range(DRAWS):
        rng = np.random.default_rng((bench.seed, 1, draw))
        orders[f"{RANDOM}{draw:02d}"] = [int(i) for i in rng.permutation(len(ranking))]
    sets = [[divmod(i, count) for i in order[:k]] for order in orders.values() for k in sizes]
    odds = _knocked(bench, "test", inert_NLE, [[], *sets])
    by_key = odds[1:].reshape(len(orders), len(sizes), -1)
    return {"heads/clean": odds[0], "heads/sizes": np.array(sizes)} | {
        f"heads/together/{key}": by_key[i] for i, key in enumerate(orders)
    }


def knock(z_LE: Array, count: int, chosen: Sequence[Head]) -> Branch:
    """At the last position, these heads, of `count` a block, give what they gave in `z_LE`."""
    width = z_LE.shape[-1] // count
    edits = []
    for layer, head in chosen:
        value = torch.tensor(z_LE[layer, head * width : (head + 1) * width])
        edits.append(Edit(layer, "head", value, first=-1, column=head * width))
    return edits


def head_count(subject: Subject) -> int:
    """How many heads a block has."""
    count: int = subject.causal_lm.config.get_text_config().num_attention_heads
    return count
