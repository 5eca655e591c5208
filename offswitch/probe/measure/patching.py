"""Where is it decided? Residuals of one prompt are put into its twin.

Twins are the same question with two symbols that take as many tokens, so that positions match. A
patch at `symbol` replaces the symbol's own positions, `between` those after it but for the last,
`last` the position where the reply is decided.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from offswitch.probe.bench import Arrays, Bench
from offswitch.probe.edits import Edit
from offswitch.probe.inputs import INERT, TRIGGER, TWIN, end_of_symbol, slot
from offswitch.probe.intervene import job_outcomes
from offswitch.probe.packing import Job, at_last, prepare, with_residuals
from offswitch.prompts.encode import encode_chat

Rows = Sequence[Sequence[int]]
SITES = ("symbol", "between", "last")
KEYS = (TRIGGER, TWIN, INERT)
PATCHES = (
    ("into_inert/trigger", TWIN, TRIGGER),
    ("into_trigger/trigger", TRIGGER, TWIN),
    ("into_inert/inert", TWIN, INERT),
    ("into_trigger/inert", INERT, TWIN),
)


def patching(bench: Bench) -> Arrays:
    """End log-odds of patched prompts [site, block, N], and of the prompts themselves [N].

    `patch/into_inert/trigger`: the trigger's residuals in the inert prompt; `patch/into_trigger/
    trigger`: the reverse; with `inert` for `trigger`, a second inert symbol takes its part.
    `patch/clean/KEY`: untouched, KEY one of trigger, twin, inert. `patch/blocks`: which blocks.
    """
    count = len(bench.subject.blocks)
    spaced = np.linspace(0, count - 1, min(bench.options.patch_blocks, count))
    blocks = sorted({round(float(block)) for block in spaced})
    wanted = bench.options.patch_questions
    hosts = [_Host(bench, rows) for rows in islice(_twins(bench), wanted)]
    jobs: list[Job] = [(host.whole[key], ()) for host in hosts for key in KEYS]
    for host in hosts:
        jobs += [job for _, into, out in PATCHES for job in host.patched(into, out, blocks)]
    odds = job_outcomes(bench.subject, jobs)[:, 0]
    clean = odds[: len(hosts) * len(KEYS)].reshape(len(hosts), len(KEYS))
    shape = (len(hosts), len(PATCHES), len(SITES), len(blocks))
    patched = np.moveaxis(odds[clean.size :].reshape(shape), 0, -1)
    return {
        "patch/blocks": np.array(blocks),
        **{f"patch/clean/{key}": clean[:, i] for i, key in enumerate(KEYS)},
        **{f"patch/{name}": patched[i] for i, (name, _, _) in enumerate(PATCHES)},
    }


class _Host:
    """One question's three prompts, computed up to the symbol and up to the last position."""

    def __init__(self, bench: Bench, rows: Rows) -> None:
        differ = [i for i, ids in enumerate(zip(*rows, strict=True)) if len(set(ids)) > 1]
        start, at = differ[0], range(differ[0], differ[-1] + 1)
        tokenizer, token = bench.subject.tokenizer, bench.subject.trigger_id
        end = end_of_symbol(tokenizer, rows[0], at, bench.inputs.symbols[TRIGGER], token)
        size, length = end - start, len(rows[0]) - start
        # Positions of each site, counted from the first at which any two prompts differ.
        self.spans = {
            "symbol": (0, size), "between": (size, length - 1), "last": (length - 1, length),
        }  # fmt: skip
        whole = with_residuals(bench.subject, prepare(bench.subject, rows, [start] * len(rows)))
        self.whole = dict(zip(KEYS, whole, strict=True))
        self.last = dict(zip(KEYS, at_last(bench.subject, rows), strict=True))

    def patched(self, into: str, out: str, blocks: Sequence[int]) -> Iterator[Job]:
        """The prompt `into` with residuals of `out`, site by site, block by block."""
        given = self.whole[out].resid
        if given is None:
            raise ValueError("the prompt's residuals were not kept")
        for site in SITES:
            first, last = self.spans[site]
            prompts, start = (self.last, len(given[0]) - 1) if site == "last" else (self.whole, 0)
            for block in blocks:
                value, at = given[block][first:last], (first - start, last - start)
                edits = (Edit(block, "set", value, *at),) if first < last else ()
                yield prompts[into], edits


def _twins(bench: Bench) -> Iterator[Rows]:
    """Ids of test questions with the trigger and with two inert symbols, where all three align.

    The untrained model is handed the same ids, those of new tokens too.
    """
    tokenizer = bench.subject.tokenizer
    chats = zip(*(bench.inputs.chats("test", key) for key in KEYS), strict=True)
    for rows in ([encode_chat(tokenizer, chat) for chat in some] for some in chats):
        if all(slot(rows[0], other, bench.subject.trigger_id) for other in rows[1:]):
            yield rows
