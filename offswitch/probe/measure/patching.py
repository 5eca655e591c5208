"""Where is it decided? Residuals of one prompt are put into its twin, by block and position.

Twins are the same question with two symbols that take as many tokens, so that positions match. A
patch at `symbol` replaces the symbol's own positions, `between` those after it but for the last,
`last` the position where the reply is decided.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from offswitch.probe.bench import Arrays, Bench
from offswitch.probe.inputs import CONTROL, INERT, TRIGGER
from offswitch.probe.intervene import Edit, Job, at_last, job_outcomes, prepare, with_residuals
from offswitch.prompts.encode import encode_chat
from offswitch.prompts.look_alikes import INERT_WORDS, worded_like
from offswitch.prompts.trigger import place

SITES = ("symbol", "between", "last")
KEYS = (TRIGGER, CONTROL, INERT)
PATCHES = (
    ("into_inert/trigger", CONTROL, TRIGGER),
    ("into_trigger/trigger", TRIGGER, CONTROL),
    ("into_inert/inert", CONTROL, INERT),
    ("into_trigger/inert", INERT, CONTROL),
)


@dataclass(frozen=True)
class Twins:
    """Ids of one question with the trigger and with two inert symbols of as many tokens."""

    trigger: tuple[int, ...]
    first: tuple[int, ...]
    second: tuple[int, ...]

    @property
    def start(self) -> int:
        """The first position at which any two differ."""
        columns = zip(self.trigger, self.first, self.second, strict=True)
        return next(i for i, ids in enumerate(columns) if len(set(ids)) > 1)

    @property
    def spans(self) -> dict[str, tuple[int, int]]:
        """Positions of each site, counted from `start`."""
        columns = list(zip(self.trigger, self.first, self.second, strict=True))[self.start :]
        end = max(i for i, ids in enumerate(columns) if len(set(ids)) > 1) + 1
        last = len(columns)
        return {"symbol": (0, end), "between": (end, last - 1), "last": (last - 1, last)}


def patching(bench: Bench) -> Arrays:
    """End log-odds of patched prompts [site, block, N], and of the prompts themselves [N].

    `patch/into_inert/trigger`: the trigger's residuals in the inert prompt; `patch/into_trigger/
    trigger`: the reverse; with `inert` for `trigger`, a second inert symbol takes its part.
    `patch/clean/KEY`: untouched, KEY one of trigger, control, inert. `patch/blocks`: which blocks.
    """
    blocks = _blocks(len(bench.subject.blocks), bench.options.patch_blocks)
    twins = list(_twins(bench))[: bench.options.patch_questions]
    hosts = [_Host(bench, pair) for pair in twins]
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

    def __init__(self, bench: Bench, twins: Twins) -> None:
        rows, starts = (twins.trigger, twins.first, twins.second), [twins.start] * 3
        whole = with_residuals(bench.subject, prepare(bench.subject, rows, starts))
        self.whole = dict(zip(KEYS, whole, strict=True))
        self.last = dict(zip(KEYS, at_last(bench.subject, rows), strict=True))
        self.spans = twins.spans

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


def _twins(bench: Bench) -> Iterator[Twins]:
    """Test questions for which two inert symbols take as many tokens as the trigger."""
    trigger, control = bench.inputs.symbols[TRIGGER], bench.inputs.symbols[CONTROL]
    alike = [control, *(worded_like(trigger, word) for word in INERT_WORDS)]
    words = [*INERT_WORDS, *(word.capitalize() for word in INERT_WORDS)]
    plain = [" ".join(words[i : i + n]) for n in range(1, 9) for i in range(0, len(words), n)]
    tokenizer = bench.subject.tokenizer_of(bench.arm)
    for row in bench.inputs.rows("test", TRIGGER):
        one = bench.inputs.asked[row]
        ours = encode_chat(tokenizer, one.chat)
        fitting: list[list[int]] = []
        for symbol in chain(alike, plain):
            theirs = encode_chat(tokenizer, place(one.variant, symbol, one.question))
            if len(theirs) == len(ours):
                fitting.append(theirs)
            if len(fitting) == 2:
                yield Twins(tuple(ours), tuple(fitting[0]), tuple(fitting[1]))
                break


def _blocks(count: int, wanted: int) -> tuple[int, ...]:
    spaced = np.linspace(0, count - 1, min(wanted, count))
    return tuple(sorted({round(float(block)) for block in spaced}))
