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
from torch import Tensor

from offswitch.chat import encode_chat
from offswitch.hooks import record
from offswitch.probe.analysis import Array
from offswitch.probe.bench import Arrays, Bench
from offswitch.probe.inputs import CONTROL, INERT, TRIGGER, Asked
from offswitch.probe.intervene import Branch, Edit, Job, at_last, job_outcomes, prepare
from offswitch.probe.nulls import INERT_WORDS
from offswitch.trigger import place, worded_like

SITES = ("symbol", "between", "last")


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
        return {"symbol": (0, end), "between": (end, len(columns) - 1)}


def patching(bench: Bench) -> Arrays:
    """End log-odds of patched prompts [site, block, N], and of the prompts themselves [N].

    `patch/into_inert/trigger`: the trigger's residuals in the inert prompt; `patch/into_trigger/
    trigger`: the reverse; with `inert` for `trigger`, a second inert symbol takes its part.
    `patch/clean/KEY`: untouched, KEY one of trigger, control, inert. `patch/blocks`: which blocks.
    """
    blocks = _blocks(len(bench.subject.blocks), bench.options.patch_blocks)
    twins = list(_twins(bench))[: bench.options.patch_questions]
    rows: dict[str, list[Array]] = {}
    for pair in twins:
        for name, odds in _one(bench, pair, blocks).items():
            rows.setdefault(name, []).append(odds)
    found: Arrays = {name: np.stack(values, axis=-1) for name, values in rows.items()}
    return found | {"patch/blocks": np.array(blocks)}


def _one(bench: Bench, twins: Twins, blocks: Sequence[int]) -> Arrays:
    ids = {TRIGGER: twins.trigger, CONTROL: twins.first, INERT: twins.second}
    rows = list(ids.values())
    prompts = dict(zip(ids, prepare(bench.subject, rows, [twins.start] * len(ids)), strict=True))
    ends = dict(zip(ids, at_last(bench.subject, rows), strict=True))
    resid: dict[str, dict[int, Tensor]] = {}
    found: Arrays = {}
    for key, prompt in prompts.items():
        with record(bench.subject.blocks, keep=lambda r: r[0]) as resid[key]:
            found[f"patch/clean/{key}"] = job_outcomes(bench.subject, [(prompt, ())])[0, 0]
    jobs: list[Job] = []
    names = []
    for other in (TRIGGER, INERT):
        for name, host, guest in (("into_inert", CONTROL, other), ("into_trigger", other, CONTROL)):
            names.append(f"patch/{name}/{other}")
            jobs += [
                (prompts[host], _patch(resid[guest], block, twins.spans[site]))
                for site in SITES[:-1]
                for block in blocks
            ]
            jobs += [
                (ends[host], (Edit(block, "set", resid[guest][block][-1:], first=-1),))
                for block in blocks
            ]
    odds = job_outcomes(bench.subject, jobs)[:, 0]
    return found | dict(zip(names, odds.reshape(len(names), len(SITES), len(blocks)), strict=True))


def _patch(resid: dict[int, Tensor], block: int, span: tuple[int, int]) -> Branch:
    first, last = span
    if first == last:
        return ()
    return (Edit(block, "set", resid[block][first:last], first=first, last=last),)


def _twins(bench: Bench) -> Iterator[Twins]:
    """Test questions for which two inert symbols take as many tokens as the trigger."""
    trigger, control = bench.inputs.symbols[TRIGGER], bench.inputs.symbols[CONTROL]
    alike = [control, *(worded_like(trigger, word) for word in INERT_WORDS)]
    plain = [*INERT_WORDS, *(word.capitalize() for word in INERT_WORDS)]
    tokenizer = bench.subject.tokenizer_of(bench.arm)
    for row in bench.inputs.rows("test", TRIGGER):
        one: Asked = bench.inputs.asked[row]
        ours = encode_chat(tokenizer, one.chat)
        fitting: list[list[int]] = []
        for symbol in chain(alike, plain):
            theirs = encode_chat(tokenizer, place(one.placement, symbol, one.question))
            if len(theirs) == len(ours):
                fitting.append(theirs)
            if len(fitting) == 2:
                yield Twins(tuple(ours), tuple(fitting[0]), tuple(fitting[1]))
                break


def _blocks(count: int, wanted: int) -> tuple[int, ...]:
    spaced = np.linspace(0, count - 1, min(wanted, count))
    return tuple(sorted({round(float(block)) for block in spaced}))
